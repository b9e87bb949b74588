from __future__ import annotations

import subprocess
import sys

from model_sync.sandbox.output import MAX_LINE, Output


def output_of(code: str) -> Output:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output = Output(process)
    output.join()
    process.kill()
    process.wait()
    return output


def test_only_json_objects_are_messages() -> None:
    output = output_of("print('{\"a\": 1}\\n[1]\\nx\\n' + '[' * 100_000 + '\\n{\"b\": 2}')")
    assert output.messages == [{"a": 1}, {"b": 2}]
    assert not output.exceeded


def test_a_line_that_is_too_long() -> None:
    output = output_of(f"import sys; sys.stdout.write('x' * {2 * MAX_LINE})")
    assert (output.messages, output.exceeded) == ([], True)


def test_output_without_end() -> None:
    output = output_of("while True: print('{}' + ' ' * 1000)")
    assert output.exceeded


def test_the_last_line_of_standard_error_is_kept() -> None:
    output = output_of("import sys; sys.stderr.write('x' * 10_000_000 + '\\nit broke\\n')")
    assert output.error_suffix() == ": it broke"
    assert not output_of("").error_suffix()
