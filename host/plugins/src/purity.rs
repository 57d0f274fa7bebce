//! The same batch gets the same answer, or the plugin has a memory it must not have. That is tried before a plugin
//! is let in ([`crate::trial`]) and goes on while it serves: now and then the messages of a batch are asked about
//! once more, backwards, in two parts, in an instance that has seen nothing else.

use std::ops::Range;
use std::sync::Arc;

use crate::batch::Batch;
use crate::error::{Cause, Fault};
use crate::filter::{Expression, FilterInstance};
use crate::plugin::Plugin;
use crate::worker::{Verdict, as_verdicts, check_shape};

/// Whether a plugin's `number`th batch, counted from 1, is asked about twice: often at first, so that what has a
/// memory is found out soon, and then one in so many.
pub(crate) fn is_due(number: u64) -> bool {
    const ONE_IN: u64 = 4_096;
    number.is_power_of_two() || number.is_multiple_of(ONE_IN)
}

/// Asks about a batch again. The messages that get another verdict than they have, and what is wrong. Who gives no
/// answer this time, perhaps because the parts are too heavy for it, is not caught at anything.
pub(crate) fn differing(
    plugin: &Arc<Plugin>,
    expression: &Expression,
    batch: &Batch,
    verdicts: &[Verdict],
) -> Option<(Fault, Vec<usize>)> {
    let mut instance = FilterInstance::mute(plugin).ok()?;
    let middle = batch.len().div_ceil(2);
    let mut differ = Vec::new();
    for part in [middle..batch.len(), 0..middle] {
        let again = ask_backwards(&mut instance, plugin, expression, batch, part.clone())?;
        let pairs = part.zip(again.iter().rev());
        let other = pairs.filter(|(place, again)| verdicts[*place] != **again);
        differ.extend(other.map(|(place, _)| place));
    }
    if differ.is_empty() {
        return None;
    }
    differ.sort_unstable();
    let why = "says something else of the same messages in another order and division";
    Some((plugin.fault(Cause::Impure, why.to_owned()), differ))
}

/// The verdicts on some of a batch's messages, the last one's first; `None` = it fails.
fn ask_backwards(
    instance: &mut FilterInstance,
    plugin: &Plugin,
    expression: &Expression,
    batch: &Batch,
    part: Range<usize>,
) -> Option<Vec<Verdict>> {
    if part.is_empty() {
        return Some(Vec::new());
    }
    let messages = batch.backwards(part);
    let compiled = instance.compile(plugin, expression).ok()?.ok()?;
    let (answer, _) = instance.ask(plugin, compiled, &messages);
    let words = answer.ok()?.ok()?;
    check_shape(plugin, messages.messages.len, &words).ok()?;
    let verdicts = as_verdicts(&words);
    Some(verdicts.take(messages.messages.len as usize).collect())
}

#[cfg(test)]
mod tests {
    use super::is_due;

    #[test]
    fn often_at_first_and_then_now_and_then() {
        let due: Vec<u64> = (1..=12_288).filter(|it| is_due(*it)).collect();
        let right = [
            1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 12_288,
        ];
        assert_eq!(due, right);
    }
}
