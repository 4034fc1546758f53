"""What fails, when, and whom it takes along: changes of workers and links at given times, which the requests' loop plays."""
