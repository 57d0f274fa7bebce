//! Of several measurements: the middle and how far they lie apart.

use serde::Serialize;

/// What repetitions of one figure came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of those that are numbers; none of none.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().filter(|it| it.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let upper = *sorted.get(half)?;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(upper, *sorted.get(half - 1)?)
        } else {
            upper
        };
        Some(Self { min, median, max })
    }

    /// Whether the largest is more than so many times the smallest.
    pub(crate) fn is_wider_than(&self, times: f64) -> bool {
        self.max > self.min * times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_ends() {
        let of = |figures: &[f64]| Spread::of(figures.iter().copied());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[f64::NAN]), None);
        let odd = Spread {
            min: 1.0,
            median: 3.0,
            max: 9.0,
        };
        assert_eq!(of(&[9.0, 1.0, 3.0]), Some(odd));
        let even = Spread {
            min: 1.0,
            median: 2.5,
            max: 9.0,
        };
        assert_eq!(of(&[9.0, 2.0, 1.0, 3.0]), Some(even));
        assert_eq!(of(&[f64::INFINITY, 2.0]).map(|it| it.max), Some(2.0));
    }

    #[test]
    fn twice_is_not_more_than_twice() {
        let spread = Spread {
            min: 1.0,
            median: 1.5,
            max: 2.0,
        };
        assert!(!spread.is_wider_than(2.0));
        assert!(spread.is_wider_than(1.9));
    }
}
