"""Sounds, frames and clips: what audio-visual datasets and manifests share."""
