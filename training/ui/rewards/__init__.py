"""The Rewards section of the Train tab: a run's rollouts as other settings would have scored them."""
