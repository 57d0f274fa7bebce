//! Settings as arguments of a command, made from the node's own table of them: a setting that has a flag
//! there has it here, with its variable of the environment and its help text.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use quern_node::settings::{self, BadSetting, Flag, Given, KEYS, Key, SHORTHANDS, Shorthand};
use quern_protocol::ConfigOrigin;

/// What was given as a flag, or by the environment. Arguments go before the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags(Vec<Value>);

#[derive(Debug, Clone)]
struct Value {
    setting: Setting,
    value: String,
    origin: ConfigOrigin,
}

#[derive(Debug, Clone, Copy)]
enum Setting {
    Key(&'static Key),
    Shorthand(&'static Shorthand),
}

impl Flags {
    pub(crate) fn given(&self) -> Result<Vec<Given>, BadSetting> {
        let mut given = Vec::new();
        for it in &self.0 {
            match it.setting {
                Setting::Key(key) => given.push(Given {
                    of: key.of,
                    key: key.name.to_owned(),
                    value: it.value.clone(),
                    origin: it.origin.clone(),
                }),
                Setting::Shorthand(short) => {
                    given.extend(settings::expand(short, &it.value, &it.origin)?);
                }
            }
        }
        Ok(given)
    }
}

/// All that have a flag.
fn all() -> impl Iterator<Item = (Setting, &'static Flag)> {
    let shorthands = SHORTHANDS.iter();
    let shorthands = shorthands.map(|it| (Setting::Shorthand(it), &it.flag));
    let keys = KEYS.iter();
    let keys = keys.filter_map(|key| Some((Setting::Key(key), key.flag.as_ref()?)));
    shorthands.chain(keys)
}

impl Setting {
    fn help(self) -> String {
        let (help, allowed, default) = match self {
            Self::Shorthand(it) => (it.help, None, it.default()),
            Self::Key(key) if key.flag.is_some_and(|flag| flag.value.is_none()) => {
                (key.help, None, key.default())
            }
            Self::Key(key) => (key.help, Some(key.allowed), key.default()),
        };
        let allowed = allowed.map(|it| format!(" [allowed: {it}]"));
        let allowed = allowed.unwrap_or_default();
        let key = match self {
            Self::Key(key) => format!(" ({})", key.name),
            Self::Shorthand(_) => String::new(),
        };
        match default.is_empty() || default == "false" {
            true => format!("{help}{key}{allowed}"),
            false => format!("{help}{key}{allowed} [default: {default}]"),
        }
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        all().fold(command, |command, (setting, flag)| {
            let mut arg = Arg::new(flag.long).long(flag.long).help(setting.help());
            if let Some(short) = flag.short {
                arg = arg.short(short);
            }
            if let Some(env) = flag.env {
                arg = arg.env(env);
            }
            arg = match flag.value {
                Some(name) => arg.value_name(name),
                None => arg
                    .value_name("true|false")
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true"),
            };
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (setting, flag) in all() {
            let Some(value) = matches.get_one::<String>(flag.long) else {
                continue;
            };
            let origin = match (matches.value_source(flag.long), flag.env) {
                (Some(ValueSource::EnvVariable), Some(env)) => {
                    ConfigOrigin::Environment(env.to_owned())
                }
                _ => ConfigOrigin::Flag(flag.long.to_owned()),
            };
            self.0.push(Value {
                setting,
                value: value.clone(),
                origin,
            });
        }
        self.0
            .sort_by_key(|it| matches!(it.origin, ConfigOrigin::Flag(_)));
        Ok(())
    }
}
