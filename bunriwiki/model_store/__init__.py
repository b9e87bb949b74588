"""The model store: published versions, which of them should serve, and what the workers say.

A folder shaped like a `BENTOML_HOME`. One writer, the control plane; many readers, the workers, who write nothing but
heartbeats. With `bunriwiki/artifacts/` it is all that both planes share.
"""
