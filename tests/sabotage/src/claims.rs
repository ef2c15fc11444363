//! Which scenario file says that it catches which sabotage: its key `catches`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::patch::Sabotage;

/// Where the scenario files are, from the workspace's root.
const SCENARIOS: &str = "scenarios";

/// The names in `catches`, by file; a file's path is that from the workspace's root.
#[derive(Debug, Default)]
pub(crate) struct Claims(BTreeMap<String, Vec<String>>);

impl Claims {
    /// Reads all files.
    ///
    /// # Errors
    /// The first that can't be read, or all names that no sabotage has.
    pub(crate) fn load(root: &Path, sabotages: &[Sabotage]) -> Result<Claims, String> {
        let mut claims = Claims::default();
        claims.read(root, SCENARIOS)?;
        claims.all_exist(sabotages)?;
        Ok(claims)
    }

    fn read(&mut self, root: &Path, path: &str) -> Result<(), String> {
        let cannot = |error: &dyn std::error::Error| format!("cannot read {path}: {error}");
        let at = root.join(path);
        if at.is_dir() {
            for entry in fs::read_dir(at).map_err(|error| cannot(&error))? {
                let name = entry.map_err(|error| cannot(&error))?.file_name();
                self.read(root, &format!("{path}/{}", name.to_string_lossy()))?;
            }
        } else if path.ends_with(".toml") {
            let text = fs::read_to_string(at).map_err(|error| cannot(&error))?;
            let file: toml::Table = text.parse().map_err(|error| cannot(&error))?;
            let names = file.get("catches").and_then(|names| names.as_array()).into_iter().flatten();
            let names = names.filter_map(|name| name.as_str()).map(str::to_owned).collect();
            self.0.insert(path.to_owned(), names);
        }
        Ok(())
    }

    fn all_exist(&self, sabotages: &[Sabotage]) -> Result<(), String> {
        let claims = self.0.iter().flat_map(|(file, names)| names.iter().map(move |name| (file, name)));
        let unknown: Vec<String> = claims
            .filter(|(_, name)| !sabotages.iter().any(|sabotage| sabotage.name == **name))
            .map(|(file, name)| format!("{file} says that it catches `{name}`, and no sabotage is called so"))
            .collect();
        if unknown.is_empty() { Ok(()) } else { Err(unknown.join("\n")) }
    }

    /// The files that say that they catch one of these.
    pub(crate) fn of(&self, sabotages: &[&Sabotage]) -> Vec<&str> {
        let is_one = |name: &String| sabotages.iter().any(|sabotage| sabotage.name == *name);
        self.0.iter().filter(|(_, names)| names.iter().any(is_one)).map(|(file, _)| file.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patch;

    #[test]
    fn every_name_in_a_file_of_this_workspace_is_that_of_a_sabotage() {
        let root = Path::new(crate::ROOT);
        let sabotages = patch::load(&root.join(crate::PATCHES)).unwrap();
        let claims = Claims::load(root, &sabotages).unwrap();
        assert!(!claims.of(&sabotages.iter().collect::<Vec<_>>()).is_empty());
        let complaint = claims.all_exist(&sabotages[1..]);
        assert!(complaint.unwrap_err().contains(&format!("catches `{}`", sabotages[0].name)));
    }
}
