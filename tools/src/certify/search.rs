//! The highest multiple that passes: by doubling, then by halving the distance.

/// Multiples closer than this share of the lower one are not told apart, in percent.
const RESOLUTION_PCT: u64 = 5;

/// The highest multiple that passed, from `start` on and up to `limit`; `None` if `start` does not pass.
pub fn highest<E>(
    start: u64,
    limit: u64,
    mut passes: impl FnMut(u64) -> Result<bool, E>,
) -> Result<Option<u64>, E> {
    let (mut low, mut high) = (None, None);
    let mut next = start;
    while high.is_none() {
        if !passes(next)? {
            high = Some(next);
        } else {
            low = Some(next);
            if next >= limit {
                return Ok(low);
            }
            next = (next * 2).min(limit);
        }
    }
    let (Some(mut low), Some(mut high)) = (low, high) else { return Ok(None) };
    while high - low > (low * RESOLUTION_PCT / 100).max(1) {
        let middle = low + (high - low) / 2;
        if passes(middle)? {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(Some(low))
}

/// The highest multiple, from `found` downwards in steps of a tenth, that passes.
pub fn confirm<E>(
    found: Option<u64>,
    mut passes: impl FnMut(u64) -> Result<bool, E>,
) -> Result<Option<u64>, E> {
    let mut next = found.unwrap_or(0);
    while next > 0 {
        if passes(next)? {
            return Ok(Some(next));
        }
        next -= (next / 10).max(1);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn search(start: u64, limit: u64, capacity: u64) -> (Option<u64>, Vec<u64>) {
        let mut tried = Vec::new();
        let found = highest(start, limit, |multiple| {
            tried.push(multiple);
            Ok::<_, Infallible>(multiple <= capacity)
        });
        (found.unwrap(), tried)
    }

    #[test]
    fn the_highest_is_found_to_within_a_twentieth() {
        assert_eq!(search(1, 1024, 0), (None, vec![1]));
        assert_eq!(search(1, 1024, 1), (Some(1), vec![1, 2]));
        assert_eq!(search(1, 1024, 11).0, Some(11));
        for capacity in 1..300 {
            let (found, tried) = search(1, 1024, capacity);
            let found = found.unwrap();
            assert!(found <= capacity && capacity - found <= (found / 20).max(1), "{capacity}: {found}");
            assert!(tried.len() <= 18, "{capacity}: {tried:?}");
        }
        assert_eq!(search(3, 50, 1000), (Some(50), vec![3, 6, 12, 24, 48, 50]));
    }

    #[test]
    fn what_is_confirmed_has_passed() {
        let confirmed = |found, capacity: u64| {
            confirm(found, |multiple| Ok::<_, Infallible>(multiple <= capacity)).unwrap()
        };
        assert_eq!(confirmed(Some(100), 100), Some(100));
        assert_eq!(confirmed(Some(100), 85), Some(81));
        assert_eq!(confirmed(Some(2), 0), None);
        assert_eq!(confirmed(None, 9), None);
    }
}
