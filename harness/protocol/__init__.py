"""What every trial shares: combinations, masks, seeds, schedules, metrics. Knows no method."""
