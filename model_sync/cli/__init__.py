"""The command line for operators. It calls the running sidecar, or works on the store itself if no sidecar is running."""
