//! A setting of a node: its name, which is RocketMQ's where RocketMQ has it, its flag, what it may be, how it
//! acts.

use std::path::PathBuf;

use crate::config::{Config, Roles};

/// Takes a value; why not, in words that follow it.
pub(super) type Act = fn(&mut Draft, &str) -> Result<(), String>;
/// What holds, written as in a file.
pub(super) type Show = fn(&Config) -> String;
/// Keys and the value of each.
pub(super) type Expanded = Vec<(&'static str, String)>;

/// A setting.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    /// Whose it is, hence in whose file it may stand.
    pub of: Roles,
    /// Other spellings that are read.
    pub also: &'static [&'static str],
    pub flag: Option<Flag>,
    /// What it is, for people.
    pub help: &'static str,
    /// What it may be, in words.
    pub allowed: &'static str,
    pub(super) act: Act,
    pub(super) show: Show,
}

/// How a command takes a setting.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Without the hyphens.
    pub long: &'static str,
    pub short: Option<char>,
    pub env: Option<&'static str>,
    /// What stands for the value in a help text; `None` = on or off, and on without a value.
    pub value: Option<&'static str>,
}

/// A flag that gives several settings at once.
#[derive(Debug)]
pub struct Shorthand {
    pub flag: Flag,
    pub of: Roles,
    pub help: &'static str,
    pub keys: &'static [&'static str],
    /// Of a value, the keys and what each becomes.
    pub(super) expand: fn(&str) -> Result<Expanded, String>,
    pub(super) show: Show,
}

/// A configuration in the making.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) config: Config,
    /// Directories that were named, and where below the data directory each has to be.
    pub(super) places: Vec<Place>,
}

#[derive(Debug)]
pub(super) struct Place {
    pub(super) key: &'static str,
    pub(super) given: PathBuf,
    pub(super) below: &'static str,
}

impl Key {
    /// What it is if nobody says anything.
    pub fn default(&self) -> String {
        (self.show)(&Config::new(Roles::Both))
    }

    pub(super) const fn new(
        of: Roles,
        name: &'static str,
        help: &'static str,
        allowed: &'static str,
        how: (Act, Show),
    ) -> Self {
        Self {
            name,
            of,
            also: &[],
            flag: None,
            help,
            allowed,
            act: how.0,
            show: how.1,
        }
    }

    pub(super) const fn also(mut self, also: &'static [&'static str]) -> Self {
        self.also = also;
        self
    }

    pub(super) const fn flag(mut self, flag: Flag) -> Self {
        self.flag = Some(flag);
        self
    }
}

impl Flag {
    pub(super) const fn new(long: &'static str, env: &'static str, value: &'static str) -> Self {
        Self {
            long,
            short: None,
            env: Some(env),
            value: Some(value),
        }
    }

    pub(super) const fn switch(long: &'static str, env: Option<&'static str>) -> Self {
        Self {
            long,
            short: None,
            env,
            value: None,
        }
    }

    pub(super) const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }
}

impl Shorthand {
    /// Whether a setting is one of those it gives.
    pub(super) fn gives(&self, key: &str) -> bool {
        self.keys.contains(&key)
    }

    /// What it is if nobody says anything.
    pub fn default(&self) -> String {
        (self.show)(&Config::new(Roles::Both))
    }
}
