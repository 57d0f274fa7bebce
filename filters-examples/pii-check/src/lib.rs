//! A body filter: delivers only messages whose body carries no personal data in clear. For consumers
//! that must not see any: analytics, a partner, a test system. Looks for e-mail addresses and for
//! card numbers (13 to 19 digits that pass Luhn's check); counts what it holds back, by kind.
//!
//! It is a net, not a proof: masking belongs into the producer.

use quern_plugin::{
    Batch, BodyFilter, Description, Level, Needs, Param, Params, Refusal, count, log,
};

pub struct PiiCheck {
    emails: bool,
    cards: bool,
    /// Deliver what carries personal data, and only that: for the one who cleans up.
    inverted: bool,
}

impl BodyFilter for PiiCheck {
    fn describe() -> Description {
        let summary = "messages without e-mail addresses and card numbers";
        Description::new("pii-check", env!("CARGO_PKG_VERSION"), summary)
            .param(Param::boolean("emails", "look for e-mail addresses").default(true))
            .param(Param::boolean("cards", "look for card numbers").default(true))
            .param(Param::boolean("invert", "deliver only what is found").default(false))
    }

    fn compile(_: &str, params: &Params) -> Result<Self, Refusal> {
        Ok(Self {
            emails: params.boolean("emails"),
            cards: params.boolean("cards"),
            inverted: params.boolean("invert"),
        })
    }

    fn needs(&self) -> Needs {
        Needs::new()
    }

    fn matches(&self, _: &Batch, _: usize, body: &[u8]) -> Result<bool, String> {
        let found = if self.emails && has_email(body) {
            Some("email")
        } else if self.cards && has_card(body) {
            Some("card")
        } else {
            None
        };
        if let Some(kind) = found {
            count(kind, 1);
            log(Level::Debug, kind);
        }
        Ok(found.is_some() == self.inverted)
    }
}

fn is_atom(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-')
}

/// Something before an `@`, and after it a name with a dot in it.
fn has_email(body: &[u8]) -> bool {
    let ats = body.iter().enumerate().filter(|(_, byte)| **byte == b'@');
    ats.into_iter().any(|(at, _)| {
        let before = at
            .checked_sub(1)
            .is_some_and(|it| is_atom(body[it]) && body[it] != b'.');
        let rest = &body[at + 1..];
        let len = rest.iter().take_while(|byte| is_atom(**byte)).count();
        let domain = rest[..len].trim_ascii();
        let dot = domain.iter().rposition(|byte| *byte == b'.');
        // A sentence may end right behind the address.
        let dot = match dot {
            Some(last) if last + 1 == domain.len() => {
                domain[..last].iter().rposition(|byte| *byte == b'.')
            }
            other => other,
        };
        before && dot.is_some_and(|dot| dot > 0 && domain.len() - dot > 2)
    })
}

/// 13 to 19 digits, single spaces or dashes between them, that pass Luhn's check.
fn has_card(body: &[u8]) -> bool {
    let mut digits: Vec<u8> = Vec::new();
    let mut gap = false;
    for byte in body.iter().copied().chain([0]) {
        match byte {
            b'0'..=b'9' => {
                digits.push(byte - b'0');
                gap = false;
            }
            b' ' | b'-' if !digits.is_empty() && !gap => gap = true,
            _ => {
                if (13..=19).contains(&digits.len()) && luhn(&digits) {
                    return true;
                }
                digits.clear();
                gap = false;
            }
        }
    }
    false
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(*digit);
            match place % 2 {
                0 => digit,
                _ => digit * 2 / 10 + digit * 2 % 10,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

quern_plugin::export_body_filter!(PiiCheck);
