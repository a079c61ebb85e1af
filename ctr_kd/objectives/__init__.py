"""Objectives: small pure functions of logits and targets, each with its source."""
