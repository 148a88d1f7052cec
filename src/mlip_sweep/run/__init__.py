"""One run in four steps: plan it, find where to start, train, measure; measuring again and benchmarks share them."""
