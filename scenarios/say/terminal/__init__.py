"""Answers on a terminal: tables that fit its width, sentences broken between words."""
