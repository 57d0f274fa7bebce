//! `quern explain CODE`: the page of an error code.

use clap::Args as ClapArgs;
use quern_protocol::{Code, Retry};

use crate::failure::Failure;
use crate::output;

#[derive(Debug, ClapArgs)]
pub(crate) struct Args {
    /// Q-2003, or just 2003; nothing lists all codes.
    code: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let Some(text) = &args.code else {
        let rows: Vec<Vec<String>> = Code::ALL
            .iter()
            .map(|code| vec![format!("Q-{}", code.number), code.name.to_owned()])
            .collect();
        return output::print(&output::table(&["CODE", "NAME"], &rows));
    };
    let number = text.trim_start_matches("Q-").trim_start_matches("q-");
    let code = number.parse().ok().and_then(Code::find);
    let code = code.ok_or_else(|| {
        Failure::new(
            3,
            format!("there is no error code {text:?}; `quern explain` lists all"),
        )
    })?;
    let retry = match code.retry {
        Retry::Never => "Trying the same again brings the same answer.",
        Retry::Here => "The same request may succeed later.",
        Retry::Elsewhere => "Another broker may do it.",
        Retry::AfterRoutes => "Asking for the route again may help; clients do so by themselves.",
    };
    output::print(&format!(
        "Q-{} {}\n\n{}\n\nWhat to do: {}\nRetry: {retry}\n",
        code.number, code.name, code.meaning, code.advice
    ))
}
