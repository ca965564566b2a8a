"""What is measured, and how; ``make bench NAME=...`` runs one of these and writes ``benchmarks/results/NAME.json``."""
