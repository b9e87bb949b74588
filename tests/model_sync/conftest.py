from tests.bunriwiki.model_store.conftest import make_version, writer

__all__ = ["make_version", "writer"]  # fixtures
