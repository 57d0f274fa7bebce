//! What peers on a JVM have in common: libraries from Maven Central, and a driver compiled against them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::place::{Place, make, need};

const DRIVER: &str = include_str!("../../drivers/java/Driver.java");

/// Libraries (group, artifact, version) with all they need, and the driver `NAME.java` compiled, in
/// the cache under this name.
pub(super) struct Jars {
    pub(super) name: &'static str,
    pub(super) libraries: Vec<[String; 3]>,
    pub(super) driver: (&'static str, &'static str),
}

impl Jars {
    pub(super) fn prepare(&self, place: &Place) -> Result<()> {
        need("java", "-version")?;
        need("javac", "-version")?;
        need("mvn", "-version")?;
        let pom = self.pom();
        let (file, text) = self.driver;
        place.once(self.name, &format!("{pom}{DRIVER}{text}"), |dir| {
            std::fs::write(dir.join("pom.xml"), &pom)?;
            let fetch = [
                "-q",
                "-B",
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
            ];
            let to = format!("-DoutputDirectory={}", dir.join("jars").display());
            make(Command::new("mvn").args(fetch).arg(to).current_dir(dir))?;
            std::fs::write(dir.join("Driver.java"), DRIVER)?;
            std::fs::write(dir.join(file), text)?;
            let javac = [
                "-nowarn",
                "-cp",
                "jars/*",
                "-d",
                "classes",
                "Driver.java",
                file,
            ];
            make(Command::new("javac").args(javac).current_dir(dir))
        })?;
        Ok(())
    }

    fn pom(&self) -> String {
        let mut all = String::new();
        for [group, artifact, version] in &self.libraries {
            all += &format!(
                "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>\n"
            );
        }
        format!(
            "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\n\
             <groupId>yardstick</groupId><artifactId>{}</artifactId><version>1</version>\n\
             <dependencies>\n{all}</dependencies></project>\n",
            self.name
        )
    }

    /// A JVM with the libraries on its path, its logs and home in a directory of the turn.
    pub(super) fn java(&self, place: &Place, home: &Path, heap: &[&str]) -> Result<Command> {
        let dir = place.cache.join(self.name);
        let path = std::env::join_paths([dir.join("jars/*"), dir.join("classes")])?;
        std::fs::create_dir_all(home).with_context(|| format!("making {}", home.display()))?;
        let mut command = Command::new("java");
        command
            .args(heap)
            .arg("-XX:+UseG1GC")
            .arg(format!("-Duser.home={}", home.display()))
            .arg("-cp")
            .arg(path)
            .current_dir(home);
        Ok(command)
    }
}

/// Writes a file of properties.
pub(super) fn properties(file: PathBuf, lines: &[(&str, String)]) -> Result<PathBuf> {
    let text: String = lines
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}
