"""What happens to a new version on live traffic: the canary before its activation, and the rollout monitor after it."""
