//! Glob patterns as Redis has them: `*`, `?`, `[a-z]`, `[^a]`, `\x`.
//!
//! The matcher goes back only to the last star: an earlier star never needs to give or take anything once a
//! later one was reached. So a match costs at most pattern length times text length, there is no recursion to
//! overflow, and no pattern makes it exponential. A step budget bounds even that product.

/// More steps than this for one match count as "no match": 1,000 stars against a key of a kilobyte fit.
const STEPS: usize = 1 << 20;

/// Whether the pattern matches the whole text.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on after the last star, and the first byte it has not yet swallowed.
    let mut star: Option<(usize, usize)> = None;
    for _ in 0..STEPS {
        if t == text.len() {
            return pattern[p..].iter().all(|byte| *byte == b'*');
        }
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
            continue;
        }
        match one(&pattern[p..], text[t]) {
            Some(width) => {
                p += width;
                t += 1;
            }
            None => match star {
                None => return false,
                Some((after, swallowed)) => {
                    star = Some((after, swallowed + 1));
                    p = after;
                    t = swallowed + 1;
                }
            },
        }
    }
    false
}

/// If the pattern begins with something that matches this byte, how long that something is.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', class @ ..] => class_matches(class, byte).map(|width| width + 1),
        [plain, ..] => (*plain == byte).then_some(1),
    }
}

/// The same for what follows a `[`. A class without its `]` ends with the pattern, as in Redis.
fn class_matches(class: &[u8], byte: u8) -> Option<usize> {
    let negated = class.first() == Some(&b'^');
    let mut at = usize::from(negated);
    let mut found = false;
    loop {
        match class.get(at..).unwrap_or_default() {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                found |= *escaped == byte;
                at += 2;
            }
            [low, b'-', high, ..] => {
                let (low, high) = (low.min(high), low.max(high));
                found |= (low..=high).contains(&&byte);
                at += 3;
            }
            [plain, ..] => {
                found |= *plain == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("*", &["", "a", "abc"], &[]),
            ("h?llo", &["hello", "hallo"], &["hllo", "heello"]),
            ("h*llo", &["hllo", "heeello"], &["hell"]),
            ("h[ae]llo", &["hello", "hallo"], &["hillo"]),
            ("h[^e]llo", &["hallo", "hbllo"], &["hello"]),
            ("h[a-b]llo", &["hallo", "hbllo"], &["hcllo"]),
            ("h[b-a]llo", &["hallo"], &["hcllo"]),
            ("a\\*b", &["a*b"], &["axb"]),
            ("[\\]]", &["]"], &["a"]),
            ("a[bc", &["ab", "ac"], &["ad", "a"]),
            ("*a*b*c", &["abc", "xaxbxc"], &["acb", "ab"]),
            ("a\\", &["a\\"], &["a"]),
            ("", &[""], &["a"]),
            ("abc*", &["abc", "abcd"], &["ab"]),
            ("**", &["", "x"], &[]),
            ("[^]", &["a"], &[""]),
        ];
        for (pattern, yes, no) in cases {
            for text in *yes {
                assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} should match {text}");
            }
            for text in *no {
                assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} should not match {text}");
            }
        }
    }

    #[test]
    fn a_hostile_pattern_ends_soon() {
        let start = std::time::Instant::now();
        let pattern = "a*".repeat(30_000) + "b";
        let text = "a".repeat(60_000);
        assert!(!matches(pattern.as_bytes(), text.as_bytes()));
        assert!(start.elapsed().as_secs() < 2);
    }
}
