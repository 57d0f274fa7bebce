//! Two ways to share queues out evenly, for strategies to build on.

use crate::strategy::Owners;

/// Neighbouring queues to one member; the first members get what does not divide, one each.
pub fn averagely(members: usize, queues: usize) -> Owners {
    let Some(share) = queues.checked_div(members) else {
        return vec![None; queues];
    };
    let more = queues % members;
    let all = (0..members).flat_map(|member| {
        let count = share + usize::from(member < more);
        std::iter::repeat_n(Some(member), count)
    });
    all.collect()
}

/// Each member one queue, then each another.
pub fn in_turn(members: usize, queues: usize) -> Owners {
    (0..queues)
        .map(|queue| queue.checked_rem(members))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_differ_by_one_at_most() {
        let owners = |of: fn(usize, usize) -> Owners, members, queues| {
            let digit =
                |owner: Option<usize>| owner.map_or_else(|| "-".to_owned(), |it| it.to_string());
            of(members, queues)
                .into_iter()
                .map(digit)
                .collect::<String>()
        };
        assert_eq!(owners(averagely, 3, 8), "00011122");
        assert_eq!(owners(averagely, 3, 2), "01");
        assert_eq!(owners(averagely, 0, 2), "--");
        assert_eq!(owners(in_turn, 3, 8), "01201201");
        assert_eq!(owners(in_turn, 0, 2), "--");
    }
}
