"""From stored evidence to statements: tables, intervals, rankings, robustness. Trains nothing."""
