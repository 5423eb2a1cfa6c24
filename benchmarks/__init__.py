"""One runnable module a question: `python -m benchmarks.train_step`. Each prints a table and a last line of JSON."""
