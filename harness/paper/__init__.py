"""What is known of the DMRNet paper: its numbers, its claims, what its figures measure."""
