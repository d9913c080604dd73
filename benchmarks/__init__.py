"""Benchmarks: what a step costs in time, operations, memory and communication."""
