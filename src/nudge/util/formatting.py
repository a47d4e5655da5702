"""Numbers as text, in English and Korean. NaN and infinity are written as such."""

import math

MINUS = "\N{MINUS SIGN}"


def whole(value: float) -> str:
    """Round to a whole number: 1234567 -> 1,234,567"""
    return f"{round(value):,}".replace("-", MINUS)


def count(value: float, language: str = "en") -> str:
    """Shorten a count to read at a glance: 19961856 -> 19.96 M, in Korean 1,996만"""
    units = (
        ((1e12, "조"), (1e8, "억"), (1e4, "만"))
        if language == "ko"
        else ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k"))
    )
    digits = 4 if language == "ko" else 3
    for size, unit in units:
        if abs(value) >= size * (1 - 0.5 * 10.0**-digits):  # or a value that rounds up to it
            return significant(value / size, digits, grouped=True) + unit
    return whole(value)


def compact(value: float) -> str:
    """Shorten a count as it is typed on a command line: 1557611200 -> 1.56B"""
    return count(value).replace(" ", "").replace("k", "K")


def significant(value: float, digits: int = 3, *, grouped: bool = False) -> str:
    """Round to significant digits, but keep the whole integer part: 0.0123456 -> 0.0123, 1234.5 -> 1,235"""
    if not math.isfinite(value):
        return special(value)
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4 or (magnitude > 6 and not grouped):
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", MINUS)
    text = f"{value:,.{max(0, digits - 1 - magnitude)}f}"
    if float(text.replace(",", "")) == 10 ** (magnitude + 1):  # 9.996 became 10.00
        text = f"{value:,.{max(0, digits - 2 - magnitude)}f}"
    return text.replace("-", MINUS)


def plain(value: float, digits: int = 3) -> str:
    """Round to significant digits without trailing zeros: 0.3 -> 0.3, 31.42 -> 31.4, 10949 -> 10,949"""
    text = significant(value, digits, grouped=True)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def fixed(value: float, decimals: int = 2, *, sign: bool = False) -> str:
    """Round to `decimals`, with a plus sign if `sign`: -0.314 -> −0.31"""
    if not math.isfinite(value):
        return special(value)
    text = f"{value:{'+' if sign else ''},.{decimals}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def change(value: float) -> str:
    """Round a change to three significant digits, with its sign: 0.00314 -> +0.00314"""
    return ("+" if value > 0 else "") + significant(value)


def percent(share: float) -> str:
    """Write a share as a percentage: 0.31234 -> 31.2%, 0.00031 -> 0.031%, 1e-9 -> < 0.0001%"""
    if not math.isfinite(share):
        return special(share)
    value = 100 * share
    if value == 0:
        return "0%"
    if value < 0.0001:
        return "< 0.0001%"
    if value >= 99.95:
        return "100%" if share == 1 or value >= 99.9995 else f"{math.floor(value * 100) / 100:.2f}%"
    decimals = 1 if value >= 10 else 2 if value >= 0.1 else 3 if value >= 0.01 else 4
    return f"{value:.{decimals}f}%"


def points(change: float) -> str:
    """Write a change of a share in percentage points: 0.0145 -> +1.45"""
    value = 100 * change
    return fixed(value, 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3, sign=True)


def size(n_bytes: float) -> str:
    """Write a size in bytes: 239600000 -> 240 MB"""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n_bytes >= 0.9995 * unit:
            return f"{significant(n_bytes / unit, 3, grouped=True)} {name}"
    return f"{n_bytes:,.0f} B"


def capacity(n_bytes: float) -> str:
    """Write the memory or disk size of a device, without '.0': 80000000000 -> 80 GB"""
    return size(n_bytes).replace(".0 ", " ")


def duration(seconds: float, language: str = "en") -> str:
    """Write a duration in its two largest units: 95 -> 1 min 35 s, 5400 -> 1 h 30 min"""
    day, hour, minute, second = ("일", "시간", "분", "초") if language == "ko" else (" d", " h", " min", " s")
    if not math.isfinite(seconds):
        return special(seconds)
    if seconds < 0.9995:
        return f"{significant(1000 * seconds, 2, grouped=True)} ms"
    if seconds < 9.95:
        return f"{seconds:.1f}{second}"
    rounded = round(seconds)
    parts = [
        (rounded // 86400, day),
        (rounded // 3600 % 24, hour),
        (rounded // 60 % 60, minute),
        (rounded % 60, second),
    ]
    first = next(index for index, (value, _) in enumerate(parts) if value)
    return " ".join(f"{value}{unit}" for value, unit in parts[first : first + 2] if value)


def clock(seconds: float) -> str:
    """Write seconds as on a clock: 187 -> 3:07, 8100 -> 2:15:00, 273600 -> 3 d 4 h"""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24} d {hours % 24} h"
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def special(value: float) -> str:
    """Return the name of a value that is not finite: NaN, ∞ or −∞"""
    return "NaN" if math.isnan(value) else "∞" if value > 0 else f"{MINUS}∞"


def span(hours: float, language: str = "en") -> tuple[str, str]:
    """Return an estimated time, of two digits, and its unit: 24.6 -> ("25", "hours"), 70 -> ("2.9", "days")"""
    units = ((8766.0, "years", "년"), (24.0, "days", "일"), (1.0, "hours", "시간"), (1 / 60, "min", "분"))
    for size, english, korean in units:
        if hours >= size * (2 if size == 24.0 else 1):  # 36 hours rather than 1.5 days
            value = hours / size
            shown = count(value, language) if value >= 1e5 else _two_digits(value)
            return shown, korean if language == "ko" else english
    if hours * 3600 < 0.995:
        return _two_digits(hours * 3.6e6), "ms"
    return _two_digits(hours * 3600), "초" if language == "ko" else "s"


def _two_digits(value: float) -> str:
    return significant(float(f"{value:.2g}"), 2, grouped=True)  # which alone keeps the whole integer part


def about(hours: float, language: str = "en") -> str:
    """Write an estimated time: 24.6 -> 25 hours, 25시간"""
    return ("" if language == "ko" else " ").join(span(hours, language))


def about_between(low: float, high: float, language: str = "en") -> str:
    """Write an interval of estimated times, with a common unit if possible: 17.2 and 34.6 -> 17 – 35 hours"""
    (least, unit), (most, other_unit) = span(low, language), span(high, language)
    if unit != other_unit:
        return f"{about(low, language)} – {about(high, language)}"
    return f"{least} – {most}{'' if language == 'ko' else ' '}{unit}"


def dollars(usd: float) -> str:
    """Write an amount of money: 8.369 -> $8.37, 576.2 -> $576, 4612345 -> $4.61 M"""
    if 0 < usd < 0.01:
        return "< $0.01"
    if usd >= 1e6:
        return f"${count(usd)}"
    return f"${usd:,.2f}" if usd < 100 else f"${usd:,.0f}"


def dollars_between(low: float, high: float) -> str:
    """Write an interval of amounts of money: 5.87 and 11.93 -> $5.87 – $11.93"""
    least, most = dollars(low), dollars(high)
    return least if least == most else f"{least} – {most}"


def scientific(value: float) -> str:
    """Write a number with a power of ten: 8.76e18 -> 8.76 × 10¹⁸"""
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(_RAISED)}"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
