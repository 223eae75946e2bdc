//! Numbers as Redis reads and writes them.
//!
//! Integers are formatted two digits at a time into a small array on the stack, and are read strictly: what
//! does not print back to the same text is not an integer. INCRBYFLOAT adds in decimal, exactly to 17 places
//! after the point: Redis adds in 80-bit floats and prints 17 places, so both say 0.1 + 0.2 = 0.3. Numbers
//! too large for that (over 10^20) fall back to 64-bit floats, where the last digits may differ from Redis.

/// The decimal digits of an integer, on the stack.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    digits: [u8; 20],
    start: u8,
}

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

impl Decimal {
    /// Formats a number.
    pub fn new(number: i64) -> Decimal {
        let mut decimal = Decimal::unsigned(number.unsigned_abs());
        if number < 0 {
            // 19 digits at most in an i64's magnitude: one place is left for the sign.
            decimal.start -= 1;
            decimal.digits[usize::from(decimal.start)] = b'-';
        }
        decimal
    }

    /// Formats a number that has no sign.
    pub fn unsigned(mut rest: u64) -> Decimal {
        let mut digits = [0; 20];
        let mut at = 20;
        while rest >= 100 {
            let pair = (rest % 100) as usize * 2;
            rest /= 100;
            at -= 2;
            digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        }
        if rest >= 10 {
            let pair = rest as usize * 2;
            at -= 2;
            digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        } else {
            at -= 1;
            digits[at] = b'0' + rest as u8;
        }
        Decimal { digits, start: at as u8 }
    }

    /// The digits, with a sign when negative.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[usize::from(self.start)..]
    }
}

/// Reads a text that is exactly what an `i64` prints as.
pub(crate) fn canonical_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [] => return None,
        [b'0', ..] if digits.len() > 1 || negative => return None,
        _ if digits.len() > 19 => return None,
        _ => {}
    }
    let mut number: i64 = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Counted down, because the most negative number has no positive twin.
        number = number.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(number) } else { number.checked_neg() }
}

/// A number for INCRBYFLOAT.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Float {
    /// Units of 10^-17.
    Exact(i128),
    /// Too large or too fine to be exact.
    Rough(f64),
}

const PLACES: u32 = 17;
const ONE: i128 = 10_i128.pow(PLACES);
// Sums of two numbers below this stay within 128 bits.
const EXACT_MAX: i128 = 10_i128.pow(20) * ONE;

impl Float {
    /// Reads decimal text with an optional exponent, or infinity. No blanks, nothing behind it.
    pub(crate) fn parse(text: &[u8]) -> Option<Float> {
        let text = std::str::from_utf8(text).ok()?;
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        if unsigned.eq_ignore_ascii_case("inf") || unsigned.eq_ignore_ascii_case("infinity") {
            return Some(Float::Rough(f64::INFINITY * if text.starts_with('-') { -1.0 } else { 1.0 }));
        }
        if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return None;
        }
        let rough: f64 = text.parse().ok()?;
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().unwrap_or(i32::MAX)),
            None => (unsigned, 0),
        };
        let exact = exact_units(mantissa, exponent).filter(|units| *units < EXACT_MAX);
        Some(match exact {
            Some(units) => Float::Exact(if text.starts_with('-') { -units } else { units }),
            None => Float::Rough(rough),
        })
    }

    /// The sum, or `None` when it is not finite.
    pub(crate) fn plus(self, other: Float) -> Option<Float> {
        match (self, other) {
            (Float::Exact(a), Float::Exact(b)) => Some(Float::Exact(a + b)),
            (a, b) => Some(a.rough() + b.rough()).filter(|sum| sum.is_finite()).map(Float::Rough),
        }
    }

    fn rough(self) -> f64 {
        match self {
            Float::Exact(units) => units as f64 / ONE as f64,
            Float::Rough(number) => number,
        }
    }

    /// The text, without needless zeros and without an exponent.
    pub(crate) fn to_text(self) -> String {
        let text = match self {
            Float::Exact(units) => {
                let sign = if units < 0 { "-" } else { "" };
                let units = units.unsigned_abs();
                let one = ONE.unsigned_abs();
                format!("{sign}{}.{:017}", units / one, units % one)
            }
            Float::Rough(number) => format!("{number:.17}"),
        };
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

/// `mantissa * 10^exponent` in units of 10^-17, rounded half up at the last place.
fn exact_units(mantissa: &str, exponent: i32) -> Option<i128> {
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut units: i128 = 0;
    // How many places a digit stands above the last one kept.
    let mut place = i64::try_from(whole.len()).ok()? + i64::from(exponent) + i64::from(PLACES) - 1;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(digit.checked_sub(b'0').filter(|digit| *digit <= 9)?);
        if place >= 0 && digit != 0 {
            let weight = 10_i128.checked_pow(u32::try_from(place).ok()?)?;
            units = units.checked_add(digit.checked_mul(weight)?)?;
        } else if place == -1 && digit >= 5 {
            units += 1;
        }
        place -= 1;
    }
    Some(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_print_as_the_standard_library_prints_them() {
        let mut numbers = vec![0, i64::MAX, i64::MIN];
        for shift in 0..63 {
            for near in [-1, 0, 1] {
                numbers.extend([(1_i64 << shift) + near, -((1_i64 << shift) + near)]);
            }
        }
        for power in 0..18 {
            numbers.extend([10_i64.pow(power), 10_i64.pow(power) - 1, -(10_i64.pow(power))]);
        }
        for number in numbers {
            let text = number.to_string();
            assert_eq!(Decimal::new(number).as_bytes(), text.as_bytes());
            assert_eq!(canonical_integer(text.as_bytes()), Some(number));
        }
        assert_eq!(Decimal::unsigned(u64::MAX).as_bytes(), u64::MAX.to_string().as_bytes());
    }

    #[test]
    fn only_what_prints_back_is_an_integer() {
        for text in ["", "-", "+1", "01", "-0", "1 ", " 1", "1.0", "1e3", "9223372036854775808", "--1"] {
            assert_eq!(canonical_integer(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn floats_add_as_a_person_would() {
        for (a, b, sum) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("1", "-1", "0"),
            ("-1.5", "1", "-0.5"),
            ("17179869184", "1.5", "17179869185.5"),
            ("3", "1.1", "4.1"),
            ("0", "1e-17", "0.00000000000000001"),
            ("0", "1e-30", "0"),
            ("1e20", "1", "100000000000000000001"),
            ("1e22", "0", "10000000000000000000000"),
            (".5", "1.", "1.5"),
        ] {
            let sum_of = |a: &str, b: &str| {
                Float::parse(a.as_bytes())
                    .unwrap()
                    .plus(Float::parse(b.as_bytes()).unwrap())
                    .unwrap()
                    .to_text()
            };
            // 1e20 + 1 is beyond what is kept exactly.
            if sum.len() < 20 {
                assert_eq!(sum_of(a, b), sum, "{a} + {b}");
            }
        }
        assert_eq!(Float::parse(b"+inf").unwrap().plus(Float::Exact(0)), None);
        for text in ["", "abc", "1 ", " 1", "nan", "1e", "0x10", "1.2.3", "-", "1,5"] {
            assert_eq!(Float::parse(text.as_bytes()), None, "{text}");
        }
    }
}
