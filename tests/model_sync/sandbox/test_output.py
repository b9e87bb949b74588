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


def test_objects_are_kept_and_nothing_else() -> None:
    output = output_of("print('{\"a\": 1}\\n[1]\\nx\\n' + '[' * 100_000 + '\\n{\"b\": 2}')")
    assert output.messages == [{"a": 1}, {"b": 2}]
    assert not output.too_much


def test_a_line_without_an_end() -> None:
    output = output_of(f"import sys; sys.stdout.write('x' * {2 * MAX_LINE})")
    assert (output.messages, output.too_much) == ([], True)


def test_lines_without_an_end() -> None:
    output = output_of("while True: print('{}' + ' ' * 1000)")
    assert output.too_much


def test_the_last_line_of_standard_error() -> None:
    output = output_of("import sys; sys.stderr.write('x' * 10_000_000 + '\\nit broke\\n')")
    assert output.last_words() == ": it broke"
    assert not output_of("").last_words()
