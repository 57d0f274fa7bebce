//! Java's properties files, as RocketMQ's servers read them: `key=value`, `key: value` or `key value`,
//! comments from `#` or `!`, a backslash at the end of a line that goes on, and escapes. In UTF-8, and
//! what stands after a value is trimmed: a blank nobody sees is part of no name.

/// One `key = value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Property {
    pub(crate) key: String,
    pub(crate) value: String,
    /// Where it begins, from 1.
    pub(crate) line: u32,
}

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadLine {
    pub(crate) line: u32,
    pub(crate) why: String,
}

/// Every property, in the order of the file; a key may come twice.
pub(crate) fn parse(text: &str) -> Result<Vec<Property>, BadLine> {
    let mut properties = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((first, line)) = lines.next() {
        let mut logical = first.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while goes_on(&logical) {
            logical.pop();
            let Some((next, _)) = lines.next() else { break };
            logical.push_str(next.trim_start());
        }
        let (key, value) = split(&logical);
        let unescape = |text| unescape(text).map_err(|why| BadLine { line, why });
        properties.push(Property {
            key: unescape(key)?,
            value: unescape(value.trim_end())?,
            line,
        });
    }
    Ok(properties)
}

/// Whether a line ends in a backslash that is not itself escaped.
fn goes_on(line: &str) -> bool {
    let backslashes = line.len() - line.trim_end_matches('\\').len();
    backslashes % 2 == 1
}

fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (c.is_whitespace() || c == '=' || c == ':');
        escaped = !escaped && c == '\\';
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, value.trim_start())
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => unicode(chars.by_ref().take(4))?,
                Some(other) => other,
                None => break,
            },
            other => other,
        });
    }
    Ok(out)
}

fn unicode(digits: impl Iterator<Item = char>) -> Result<char, String> {
    let digits: String = digits.collect();
    // A number may have a sign, four digits may not.
    let is_four = digits.len() == 4 && digits.chars().all(|it| it.is_ascii_hexdigit());
    let number = is_four
        .then(|| u32::from_str_radix(&digits, 16).ok())
        .flatten();
    let character = number.and_then(char::from_u32);
    character.ok_or_else(|| format!("\\u{digits} is no character; write the character itself"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String, u32)> {
        let all = parse(text).unwrap().into_iter();
        all.map(|it| (it.key, it.value, it.line)).collect()
    }

    #[test]
    fn what_java_reads_is_read_alike() {
        let cases: [(&str, &str, &str); 10] = [
            ("a=b", "a", "b"),
            ("  a  =  b  ", "a", "b"),
            ("a:b=c", "a", "b=c"),
            ("a b c", "a", "b c"),
            ("a", "a", ""),
            ("a = n1:9876;n2:9876", "a", "n1:9876;n2:9876"),
            ("a\\=b = c\\\\", "a=b", "c\\"),
            ("a = \\u00fc\\t|\\z", "a", "ü\t|z"),
            ("a = one, \\\n   two", "a", "one, two"),
            ("a = not a # comment", "a", "not a # comment"),
        ];
        for (text, key, value) in cases {
            assert_eq!(
                pairs(text),
                [(key.to_owned(), value.to_owned(), 1)],
                "{text:?}"
            );
        }
    }

    #[test]
    fn lines_are_counted_as_they_stand_in_the_file() {
        let text = "# one\r\n\r\n! three\r\na=1 \\\r\n  2\r\n\\ b=3\n\tc\t4\\";
        let found = pairs(text);
        let keys: Vec<_> = found
            .iter()
            .map(|(key, value, line)| (key.as_str(), value.as_str(), *line))
            .collect();
        assert_eq!(keys, [("a", "1 2", 4), (" b", "3", 6), ("c", "4", 7)]);
        for bad in ["\n\na=\\u12", "\n\na=\\ud83d", "\n\na=\\u+123"] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.line, 3);
            assert!(error.why.contains("is no character"), "{}", error.why);
        }
    }
}
