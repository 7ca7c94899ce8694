"""Chat templates are programs of others: those that reach out, or do not end, are refused by name; real ones pass."""

from __future__ import annotations

import json
import resource
import signal
import threading
import time
from pathlib import Path

import pytest

from ltgc_local.model_store.limits import TooSlowError, memory_limit, time_limit
from ltgc_local.model_store.templates import problem_of_templates
from tests.model_store.folders_of_roles import ROOT, copy_folder, edit_json, validate

SLOW = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
ESCAPE = "{{ messages.__class__.__mro__ }}"
DEEP = "is nested too deeply"
OWN = "a part of Python's own objects"
REFUSED = {
    "a loop in a loop": (SLOW, "takes more than 2 s for a conversation of four turns"),
    "a power": ("{{ 9**(9**9) }}", "takes more than 2 s"),
    "many sums": ("{% for i in range(99999) %}{{ range(99999)|sum }}{% endfor %}", "takes more than 2 s"),
    "a long text": ("{{ 'x' * 10**10 }}", "needs more than 512 MiB of memory"),
    "a long text at run time": ("{{ 'x' * (messages|length * 10**10) }}", "needs more than 512 MiB of memory"),
    "a wide number": ("{{ '%9999999999d' % 3 }}", "needs more than 512 MiB of memory"),
    "doubling": (
        "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "needs more than 512 MiB of memory",
    ),
    "endless recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself without end"),
    "deep brackets": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", DEEP),
    "deep blocks": ("{% if 1 %}" * 3000 + "{% endif %}" * 3000, DEEP),
    "an attribute": (ESCAPE, f"reaches for '__mro__' (line 1), {OWN}"),
    "an item": ("\n{{ messages['__class__'] }}", f"reaches for '__class__' (line 2), {OWN}"),
    "the filter attr": ("{{ messages|attr('__class__') }}", OWN),
    "the filter map": ("{{ messages|map('attr', '__class__')|list }}", OWN),
    "the filter map by name": ("{{ messages|map(attribute='__class__')|list }}", OWN),
    "a global's inside": ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", OWN),
    "a format": ("{{ '{0.__class__.__mro__}'.format(messages) }}", "does what Jinja's sandbox forbids"),
    "an include": ("{% include '/etc/passwd' %}", "reads another template (line 1: include)"),
    "an import": ("{% import 'x' as y %}", "reads another template"),
    "a from": ("{% from 'x' import y %}", "reads another template"),
    "a base": ("{% extends 'x' %}", "reads another template"),
    "no Jinja": ("{% for %}", "is not valid Jinja, line 1"),
    "too large": ("x" * 1_000_001, "1000001 characters, but at most 1000000"),
}
#: In the manner of what publishers ship, and of what those do that is unusual.
REAL = {
    "qwen": """{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\\n' + messages[0].content }}
{%- endif %}{%- set ns = namespace(multi_step_tool=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}
{%- if ns.multi_step_tool and message.role == 'user' and message.content is string %}
{%- set ns.multi_step_tool = false %}{%- set ns.last = index %}{%- endif %}{%- endfor %}
{%- for message in messages %}{{- '<|im_start|>' + message.role }}{%- if '</think>' in message.content %}
{%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}{%- endfor %}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}""",
    "llama": """{{- bos_token }}{%- if not date_string is defined %}{%- if strftime_now is defined %}
{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}
{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}
{%- for message in messages %}{%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- else %}{{- message.tool_calls|tojson(indent=4) }}{%- endif %}{%- endfor %}""",
    "llava": """{% for message in messages %}{{ message['role'].upper() + ': ' }}
{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}
{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{% generation %}{{ content['text'] }}
{% endgeneration %}{% endfor %}{% endfor %}""",
    "strict": """{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate user/assistant/…') }}{% endif %}{{ m['content'] + eos_token }}
{% endfor %}""",
    "odd": "{% set _ = dict(a=1) %}{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{% endfor %}",
    "wants tools": "{{ tools[0].function.name + 1 }}{{ 1 / 0 }}",
}


def problem_of(text: str, file: Path) -> str:
    return problem_of_templates([(file, text)])


@pytest.mark.parametrize("kind", REFUSED)
def test_a_template_that_reaches_out_or_does_not_end_is_refused_by_name_soon(kind: str) -> None:
    text, words = REFUSED[kind]
    start, limit = time.monotonic(), resource.getrlimit(resource.RLIMIT_AS)
    told = problem_of(text, Path("F"))
    assert time.monotonic() - start < 6  # 2 s, on a machine that may be busy
    assert told.startswith("F: ") and words in told and "copy the publisher's template again" in told
    assert resource.getrlimit(resource.RLIMIT_AS) == limit
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("name", REAL)
def test_a_real_template_passes(name: str) -> None:
    assert problem_of(REAL[name], Path("F")) == ""


@pytest.mark.parametrize("model", ["qwen3", "qwen2.5-vl"])
def test_the_miniatures_templates_pass(model: str) -> None:
    file = ROOT / "data/miniatures" / model / "chat_template.jinja"
    assert problem_of(file.read_text("utf-8"), file) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chat_template.jinja", None),
        ("additional_chat_templates/tool_use.jinja", None),
        ("chat_template.json", ESCAPE),
        ("tokenizer_config.json", ESCAPE),
        ("processor_config.json", ESCAPE),
        ("tokenizer_config.json", [{"name": "default", "template": "x"}, {"name": "tool_use", "template": ESCAPE}]),
        ("tokenizer_config.json", {"default": "x", "tool_use": ESCAPE}),
    ],
)
def test_templates_are_found_wherever_a_library_reads_them(name: str, value: object, tmp_path: Path) -> None:
    folder = copy_folder("vlm", tmp_path)
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    if value is None:
        file.write_text(ESCAPE)
    elif file.exists():
        edit_json(file, chat_template=value)
    else:
        file.write_text(json.dumps({"chat_template": value}))
    result = validate("vlm", folder)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"{file}: the chat template reaches for '__mro__'")


def test_many_templates_that_take_long_take_no_longer_together() -> None:
    start = time.monotonic()
    slow = "{% for i in range(99999) %}{% for j in range(60) %}{% endfor %}{% endfor %}"
    told = problem_of_templates([(Path(str(number)), slow) for number in range(100)])
    assert time.monotonic() - start < 6 and "takes more than 2 s" in told


def test_in_another_thread_time_is_not_limited_and_memory_is() -> None:
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(problem_of("{{ 'x' * 10**10 }}", Path("F"))))
    thread.start()
    thread.join()
    assert "more than 512 MiB" in told[0]


def test_a_time_limit_gives_back_what_it_changed_and_ends_what_catches_exceptions() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TooSlowError, match=r"longer than 0\.2 s"), time_limit(0.2):
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                continue
    with time_limit(0.2):
        pass
    time.sleep(0.3)
    assert signal.getsignal(signal.SIGALRM) is before


def test_a_memory_limit_that_is_narrower_already_stays() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with memory_limit(2**30) as is_ours:
        assert is_ours
        inner = resource.getrlimit(resource.RLIMIT_AS)
        with memory_limit(2**40) as is_ours:
            assert not is_ours
            assert resource.getrlimit(resource.RLIMIT_AS) == inner
    assert resource.getrlimit(resource.RLIMIT_AS) == (soft, hard)
