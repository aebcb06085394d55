"""One trial: trained, evaluated, recorded. Knows no scheduler, tracker or study."""
