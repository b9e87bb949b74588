"""The rollout: replaces the replicas of the service, one at a time, by those of an image that contains what serves.

docs/rollout.md describes it. The process `python -m model_sync rollout run` runs it, beside the sidecar. It reads the model
store and what operators want (`rollout.yaml`, which the sidecar writes), and writes its own state.

    policy      the next action, by a pure function
    state       what is remembered over a restart; the engine knows everything else
    target      where replicas run: a file for each kind of engine
    controller  one step: looks at the replicas, asks the policy, acts
"""
