from test_tools.conftest import (  # noqa: F401
    cls_fields,
    det_fields,
    seg_fields,
    tiny_data,
    tool,
    write_config,
)
