//! PostgreSQL's transaction block, as far as clients can see it, and what was inserted and is not committed yet.

use pgwire::messages::response::TransactionStatus;

use super::trouble::SqlError;
use crate::cast::history::{Inserted, Tag};

/// Most inserts that one transaction may hold. No scenario needs a hundredth of it.
pub(super) const MAX_UNCOMMITTED: usize = 100_000;

/// The transaction of one session.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    block: Block,
    uncommitted: Vec<Inserted>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Block {
    /// Outside: each simple query, and each batch up to its Sync, is a transaction of its own.
    #[default]
    None,
    /// Between BEGIN and COMMIT.
    Open,
    /// An error has ended what the block did; only its end is accepted.
    Failed,
}

/// What became of the inserts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They are durable.
    Committed(Vec<Inserted>),
    /// They are gone.
    RolledBack(Vec<Inserted>),
}

impl Transaction {
    /// What ReadyForQuery says.
    pub(super) fn status(&self) -> TransactionStatus {
        match self.block {
            Block::None => TransactionStatus::Idle,
            Block::Open => TransactionStatus::Transaction,
            Block::Failed => TransactionStatus::Error,
        }
    }

    /// Whether statements are refused with 25P02 until the block ends.
    pub(super) fn failed(&self) -> bool {
        self.block == Block::Failed
    }

    /// Whether there is a block to end.
    pub(super) fn in_block(&self) -> bool {
        self.block != Block::None
    }

    /// BEGIN. Inserts of the same batch before it become part of the block, as in PostgreSQL.
    pub(super) fn begin(&mut self) {
        self.block = Block::Open;
    }

    /// Takes the rows of a request, if there are any.
    pub(super) fn insert(&mut self, tag: Tag, rows: u32) -> Result<(), SqlError> {
        if rows == 0 {
            return Ok(());
        }
        if self.uncommitted.len() >= MAX_UNCOMMITTED {
            return Err(SqlError::new("54000", "too many inserts in one transaction"));
        }
        self.uncommitted.push(Inserted { tag, rows });
        Ok(())
    }

    /// COMMIT, with or without a block. A failed block has nothing left to commit.
    pub(super) fn commit(&mut self) -> Fate {
        let failed = self.failed();
        self.block = Block::None;
        let inserts = std::mem::take(&mut self.uncommitted);
        if failed { Fate::RolledBack(inserts) } else { Fate::Committed(inserts) }
    }

    /// ROLLBACK, with or without a block, and the end of the session.
    pub(super) fn roll_back(&mut self) -> Fate {
        self.block = Block::None;
        Fate::RolledBack(std::mem::take(&mut self.uncommitted))
    }

    /// A statement failed: whatever the transaction did is undone, at once.
    pub(super) fn fail(&mut self) -> Fate {
        if self.block == Block::Open {
            self.block = Block::Failed;
        }
        Fate::RolledBack(std::mem::take(&mut self.uncommitted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inserted(tag: &str) -> Transaction {
        let mut transaction = Transaction::default();
        transaction.insert(tag.to_owned(), 2).unwrap();
        transaction
    }

    fn rows(tag: &str) -> Vec<Inserted> {
        vec![Inserted { tag: tag.to_owned(), rows: 2 }]
    }

    #[test]
    fn inserts_before_begin_belong_to_the_block() {
        let mut transaction = inserted("a");
        transaction.begin();
        assert_eq!(transaction.roll_back(), Fate::RolledBack(rows("a")));
    }

    #[test]
    fn an_error_undoes_at_once_and_commit_then_commits_nothing() {
        let mut transaction = inserted("a");
        transaction.begin();
        assert_eq!(transaction.fail(), Fate::RolledBack(rows("a")));
        assert_eq!(transaction.status(), TransactionStatus::Error);
        assert_eq!(transaction.commit(), Fate::RolledBack(vec![]));
        assert_eq!(transaction.status(), TransactionStatus::Idle);
    }

    #[test]
    fn an_error_outside_a_block_leaves_no_failed_block() {
        let mut transaction = inserted("a");
        assert_eq!(transaction.fail(), Fate::RolledBack(rows("a")));
        assert_eq!(transaction.status(), TransactionStatus::Idle);
    }
}
