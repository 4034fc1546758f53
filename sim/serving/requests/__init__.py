"""Requests one by one: arrivals and traces, engines that schedule them, caches, transfers, and what every request waited for."""
