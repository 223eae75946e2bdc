//! Values of flags that more than one part takes: sizes, spans of time, numbers with a name.

use std::time::Duration;

/// A size in bytes: `64MiB`, `4g` or a plain number; units are powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("'{text}' is not a size; write for example 1500, 64KiB or 4GiB")),
    };
    let number: u64 = text[..digits]
        .parse()
        .map_err(|_| format!("'{text}' is not a size; write for example 1500, 64KiB or 4GiB"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("'{text}' is too large"))
}

/// A span of time: `30s`, `1500ms`, `1h 30m`.
pub fn span(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim()).map_err(|error| {
        format!("'{text}' is not a span of time ({error}); write for example 30s, 500ms or 2h")
    })
}

/// Two values with `..` between them, or one that stands for both.
pub fn range<T: Copy + PartialOrd>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<(T, T), String> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let (low, high) = (parse(low)?, parse(high)?);
    if low > high {
        return Err(format!("'{text}' runs backwards; the smaller one comes first"));
    }
    Ok((low, high))
}

/// A share in percent, 0 to 100.
pub fn percent(text: &str) -> Result<f64, String> {
    let number: f64 =
        text.trim().trim_end_matches('%').parse().map_err(|_| format!("'{text}' is not a number"))?;
    if !(0.0..=100.0).contains(&number) {
        return Err(format!("{text} is not a share in percent, 0 to 100"));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_are_read_and_nonsense_is_told() {
        assert_eq!(size("1500"), Ok(1500));
        assert_eq!(size("128KiB"), Ok(128 << 10));
        assert_eq!(size(" 4 g "), Ok(4 << 30));
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(range("1..3", size), Ok((1, 3)));
        assert_eq!(range("7", size), Ok((7, 7)));
        for wrong in ["", "x", "-1", "1.5", "1kk", "99999999999999t"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert!(range("3..1", size).unwrap_err().contains("backwards"));
        assert!(span("soon").unwrap_err().contains("30s"));
        assert_eq!(percent("12.5%"), Ok(12.5));
        for wrong in ["101", "-1", "NaN", "half"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
