"""What several checks share: data with known margins, descents in float64, small networks."""
