"""Why something did not start, out of what its platform printed."""

import re

_RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception|Exit|Interrupt|Permanent|Retryable): *", re.MULTILINE)
_OURS = re.compile(r"^autonomic\.[\w.]*(?:Permanent|Retryable|SpecError): *", re.MULTILINE)
_NEXT = re.compile(r"\n+(?=Traceback \(most recent call last\)|The above exception|During handling)")
MOST_CHARACTERS = 800


def cause_of(message: str) -> str:
    """What a message with a traceback ends with: the error itself. One without stays as it is.

    An error of ours says all there is to say, so it is given without its type.
    """
    text = message.strip()
    if "Traceback (most recent call last)" not in text:
        return text[:MOST_CHARACTERS]
    raised = list(_RAISED.finditer(text))
    if not raised:
        return text[-MOST_CHARACTERS:]
    ours = list(_OURS.finditer(text))
    start = ours[-1].end() if ours else raised[-1].start()
    return _NEXT.split(text[start:], maxsplit=1)[0].strip()[:MOST_CHARACTERS]
