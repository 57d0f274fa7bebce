//! A filter that reads bodies, too: which messages does a consumer get?

use quern_plugin::{Batch, BodyFilter, Description, Needs, Param, Params, Refusal, Text};

pub struct Containing {
    text: Vec<u8>,
}

impl BodyFilter for Containing {
    fn describe() -> Description {
        let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        Description::new(name, version, "bodies that contain a text, and all that is urgent")
            .param(Param::text("text", "what a body has to contain"))
    }

    fn compile(_: &str, params: &Params) -> Result<Self, Refusal> {
        match params.text("text") {
            "" => Err(Refusal::param("text", 0, "every body contains nothing")),
            text => Ok(Self {
                text: text.as_bytes().to_vec(),
            }),
        }
    }

    fn needs(&self) -> Needs {
        Needs::new().text(Text::Tag)
    }

    fn matches(&self, batch: &Batch, message: usize, body: &[u8]) -> Result<bool, String> {
        let is_urgent = batch.text(message, 0) == Some("urgent");
        let mut windows = body.windows(self.text.len());
        Ok(is_urgent || windows.any(|window| window == self.text))
    }
}

quern_plugin::export_body_filter!(Containing);
