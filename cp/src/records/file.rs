//! The file that records are written to: opened again when somebody has moved it away, synced when there is nothing more to
//! write, and never a reason to wait.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::log::Out;

/// Lines between two looks whether the file is still where it was.
const LOOK: u32 = 100;

/// Appends lines to a file.
#[derive(Debug)]
pub(super) struct RecordFile {
    path: PathBuf,
    file: File,
    /// Lines since the last look.
    since: u32,
    /// What is there may not end with its line.
    torn: bool,
}

impl RecordFile {
    /// Opens it; makes it, if there is none.
    pub(super) fn open(path: &Path) -> io::Result<RecordFile> {
        // A pipe that nobody reads would be waited for.
        let at_once = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().create(true).append(true).custom_flags(at_once).open(path)?;
        let torn = file.metadata()?.len() > 0;
        Ok(RecordFile { path: path.to_owned(), file, since: 0, torn })
    }

    /// Whether it is still the file of this name.
    fn is_there(&self) -> bool {
        let known = |file: std::fs::Metadata| (file.dev(), file.ino());
        let (here, there) = (self.file.metadata().map(known), std::fs::metadata(&self.path).map(known));
        matches!((here, there), (Ok(here), Ok(there)) if here == there)
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            // An empty line is no record, and behind a torn one the next has its own.
            self.file.write_all(b"\n")?;
        }
        self.torn = true;
        self.file.write_all(line)?;
        self.torn = false;
        Ok(())
    }
}

impl Write for RecordFile {
    /// One line: all of it, or nothing that a reader takes for one.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.since >= LOOK {
            self.since = 0;
            if !self.is_there() {
                *self = RecordFile::open(&self.path)?;
            }
        }
        let written = self.append(line);
        self.since = if written.is_ok() { self.since + 1 } else { LOOK };
        written.map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Out for RecordFile {
    fn settle(&mut self) {
        // One that can't be synced is a pipe or a device; what can't be written the next line learns.
        let _ = self.file.sync_data();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_follow_a_torn_one_on_a_line_of_their_own_and_a_file_that_was_moved_away_is_made_again() {
        let directory = std::env::temp_dir().join(format!("lastcall-records-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("records");
        std::fs::write(&path, "{\"torn").unwrap();
        let mut file = RecordFile::open(&path).unwrap();
        for _ in 0..LOOK {
            file.write_all(b"line\n").unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"torn\nline\nline\n"), "{text}");
        std::fs::rename(&path, directory.join("moved")).unwrap();
        file.write_all(b"new\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new\n");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
