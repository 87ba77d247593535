"""Plain implementations and counters that tests and benches compare the product with."""
