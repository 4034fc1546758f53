"""The shell of every page: text, tables, figures, one self-contained document, and the words and colours on it."""
