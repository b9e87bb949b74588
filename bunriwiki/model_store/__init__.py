"""The model store: published versions, which of them should serve, and the heartbeats of the workers.

A folder shaped like a `BENTOML_HOME`. The control plane is its only writer; the workers read it and write only their
heartbeats. The two planes share nothing else but `bunriwiki/artifacts/`.
"""
