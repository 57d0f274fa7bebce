//! How Java reads and hashes text. RocketMQ's answers rest on it, so a plugin that has to agree with
//! RocketMQ does too. Compared with Java itself in `tests/golden/plugins`.

use std::cmp::Ordering;

/// `String.hashCode`: over UTF-16 units, wrapping.
pub fn hash_code(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// `String.compareTo`: by UTF-16 units. UTF-8 order differs beyond U+FFFF.
pub fn compare(left: &str, right: &str) -> Ordering {
    left.encode_utf16().cmp(right.encode_utf16())
}

/// First digits of Unicode's decimal number systems within the first plane, as Java 17 knows them.
const ZEROS: [u16; 37] = [
    0x0030, 0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6,
    0x0D66, 0x0DE6, 0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80,
    0x1A90, 0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0,
    0xFF10,
];

/// `Character.digit(c, 10)`.
fn digit(c: char) -> Option<i64> {
    if let Some(digit) = c.to_digit(10) {
        return Some(digit.into());
    }
    let unit = u16::try_from(u32::from(c)).ok()?;
    let below = ZEROS.partition_point(|zero| *zero <= unit);
    let value = unit - ZEROS[below.checked_sub(1)?];
    (value < 10).then_some(value.into())
}

/// `Long.valueOf`: an optional sign and decimal digits of any script, nothing else.
pub fn long(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    // Downwards, for there is one negative number more.
    let mut value = 0i64;
    for c in digits.chars() {
        value = value.checked_mul(10)?.checked_sub(digit(c)?)?;
    }
    if negative {
        Some(value)
    } else {
        value.checked_neg()
    }
}

/// `Integer.valueOf`.
pub fn integer(text: &str) -> Option<i32> {
    i32::try_from(long(text)?).ok()
}

/// `Double.compareTo`: NaN is equal to itself and above infinity, -0.0 is below 0.0.
pub fn compare_doubles(left: f64, right: f64) -> Ordering {
    match left.partial_cmp(&right) {
        Some(order) if order != Ordering::Equal => order,
        Some(order) => match (left == 0.0, right == 0.0) {
            (true, true) => right.is_sign_negative().cmp(&left.is_sign_negative()),
            _ => order,
        },
        None => left.is_nan().cmp(&right.is_nan()),
    }
}

/// `Double.valueOf`: white space around it, a sign, `NaN`, `Infinity`, decimal or hexadecimal
/// digits, one of the suffixes `d D f F`.
pub fn double(text: &str) -> Option<f64> {
    let text = text.trim_matches(|c| c <= ' ');
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value = match digits {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        _ => {
            let bare = digits.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(digits);
            let bytes = digits.as_bytes();
            if bytes.len() > 2 && bytes[0] == b'0' && matches!(bytes[1], b'x' | b'X') {
                // A trailing d or f may be a digit of a number that lacks its exponent: not a
                // number either way.
                hexadecimal(bare.get(2..)?)?
            } else if is_decimal(bare) {
                bare.parse().ok()?
            } else {
                return None;
            }
        }
    };
    Some(if negative { -value } else { value })
}

/// `5`, `5.`, `.5`, `5.5e-3`.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        None => (text, None),
        Some(at) => (&text[..at], Some(&text[at + 1..])),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.is_none_or(|it| {
        let it = it.strip_prefix(['+', '-']).unwrap_or(it);
        !it.is_empty() && digits(it)
    });
    exponent && digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
}

/// `1.8p3`, after its `0x`: digits times two to the exponent, rounded to even.
fn hexadecimal(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Far beyond what doubles reach, a larger exponent makes no difference.
    let far = if exponent.starts_with('-') {
        -1_000_000
    } else {
        1_000_000
    };
    let mut scale: i64 = exponent
        .parse::<i64>()
        .unwrap_or(far)
        .clamp(-1_000_000, 1_000_000);
    let mut bits = 0u64;
    let mut lost = false;
    for (index, c) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(c.to_digit(16)?);
        if bits >> 60 == 0 {
            bits = bits << 4 | digit;
        } else {
            lost |= digit != 0;
            scale += 4;
        }
        if index >= whole.len() {
            scale -= 4;
        }
    }
    Some(scaled(bits, lost, scale))
}

/// `bits` (and a little more, if `lost`) times two to the `scale`, rounded to even.
fn scaled(bits: u64, lost: bool, scale: i64) -> f64 {
    if bits == 0 {
        return 0.0;
    }
    let shift = i64::from(bits.leading_zeros());
    let bits = bits << shift;
    // The value is bits * 2^scale with the top bit set, that is 1.f * 2^exponent.
    let exponent = scale - shift + 63;
    if exponent > 1023 {
        return f64::INFINITY;
    }
    // How many low bits do not fit: 11, and more where numbers are subnormal.
    let drop = if exponent >= -1022 {
        11
    } else {
        11 + (-1022 - exponent)
    };
    if drop > 64 {
        return 0.0;
    }
    let (kept, rest, half) = match drop {
        64 => (0, u128::from(bits), 1u128 << 63),
        _ => (
            bits >> drop,
            u128::from(bits & ((1 << drop) - 1)),
            1u128 << (drop - 1),
        ),
    };
    let up = rest > half || rest == half && (lost || kept & 1 == 1);
    let mantissa = kept + u64::from(up);
    // A carry out of the mantissa raises the exponent by itself.
    let biased = if exponent >= -1022 {
        (exponent + 1022) as u64
    } else {
        0
    };
    f64::from_bits((biased << 52) + mantissa)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_javas() {
        for (text, value) in [
            ("5", Some(5)),
            ("+5", Some(5)),
            ("-5", Some(-5)),
            ("５", Some(5)),
            ("٥٠", Some(50)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            (" 5", None),
            ("5.0", None),
            ("0x5", None),
            ("𝟓", None),
        ] {
            assert_eq!(long(text), value, "{text:?}");
        }
    }

    #[test]
    fn doubles_are_javas() {
        for (text, value) in [
            ("5", Some(5.0)),
            (" 5d\n", Some(5.0)),
            ("5.F", Some(5.0)),
            (".5e1", Some(5.0)),
            ("-Infinity", Some(f64::NEG_INFINITY)),
            ("0x1.8p1", Some(3.0)),
            ("0X.8P-1", Some(0.25)),
            ("0x1p-1074", Some(f64::from_bits(1))),
            ("0x1p-1075", Some(0.0)),
            ("0x1.0000000000001p-1075", Some(f64::from_bits(1))),
            ("0x1.fffffffffffff8p1023", Some(f64::INFINITY)),
            ("0x1.fffffffffffff7p1023", Some(f64::MAX)),
            ("0x1.00000000000008p0", Some(1.0)),
            (
                "0x1.000000000000080000000000000001p0",
                Some(1.0 + f64::EPSILON),
            ),
            ("0x1p99999999999999999999", Some(f64::INFINITY)),
            ("0x1", None),
            ("0x1d", None),
            ("inf", None),
            ("nan", None),
            ("infinity", None),
            (".", None),
            ("e5", None),
            ("5e", None),
            ("", None),
            ("５", None),
            ("1_0", None),
        ] {
            assert_eq!(double(text), value, "{text:?}");
        }
        assert!(double(" NaN ").is_some_and(f64::is_nan));
    }

    #[test]
    fn doubles_are_ordered_as_in_java() {
        let rising = [
            f64::NEG_INFINITY,
            -1.0,
            -0.0,
            0.0,
            1.0,
            f64::INFINITY,
            f64::NAN,
        ];
        for (index, left) in rising.iter().enumerate() {
            for (other, right) in rising.iter().enumerate() {
                assert_eq!(
                    compare_doubles(*left, *right),
                    index.cmp(&other),
                    "{left} {right}"
                );
            }
        }
    }
}
