"""Requests one by one: arrivals and traces, engines that schedule them, caches and transfers."""
