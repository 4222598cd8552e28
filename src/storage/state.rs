//! The state of a room as a persistent radix tree of 16: a change writes one path of nodes, all other nodes are shared.
//! May import: commit, keyspaces.
//!
//! Type and state key of an entry are numbered per room, from 0 and without holes (keyspace `STATE_KEYS`). A leaf holds
//! the arrivals of 16 such numbers, an inner node 16 references to nodes. A reference is the number of a row and an index
//! in it; all nodes of one update are packed into one row, so a change of a large state costs one row of a few hundred
//! bytes. The shape of a tree follows from the set of its keys alone. Nodes never change; a tree is known by its root.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{Arrival, Commit, Home, StorageError, Store, Value, keyspaces::STATE_NODES, value::VALUE_BYTES_MAX};

mod cache;
mod compare;
#[cfg(test)]
mod tests;
mod update;

pub use cache::StateCache;
pub use update::Update;

/// Children of a node.
const FAN: usize = 16;

/// Bits of a key that one level consumes.
const LEVEL_BITS: u32 = 4;

/// Nodes of one row; an update with more makes several rows.
const ROW_NODES_MAX: usize = 256;

/// Bytes of a stored node: its kind, and 16 references or arrivals of up to 10 bytes, references with an index of 2.
const NODE_BYTES_MAX: usize = 1 + FAN * 12;

const _: () = assert!(ROW_NODES_MAX * NODE_BYTES_MAX + 16 <= 64 * 1024 && 64 * 1024 <= VALUE_BYTES_MAX);

/// Names one node; row 0 names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
struct NodeRef {
    row: u64,
    index: u8,
}

impl NodeRef {
    const NONE: Self = Self { row: 0, index: 0 };
}

/// Names one state of a room. Takes 3 to 12 bytes in a stored value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct StateRoot {
    node: NodeRef,
    #[serde(deserialize_with = "height")]
    height: u8,
}

/// Levels above the leaves that keys of 32 bits can need.
const HEIGHT_MAX: u8 = 7;

/// A height that no tree has comes from a damaged row.
fn height<'de, D: Deserializer<'de>>(stored: D) -> Result<u8, D::Error> {
    let height = u8::deserialize(stored)?;
    if height <= HEIGHT_MAX { Ok(height) } else { Err(D::Error::custom("no state has a tree of this height")) }
}

impl StateRoot {
    /// The state without entries.
    pub const EMPTY: Self = Self { node: NodeRef::NONE, height: 0 };

    fn is_empty(self) -> bool {
        self.node == NodeRef::NONE
    }

    /// The number of keys that a tree of its height has room for.
    fn span(self) -> u64 {
        span(self.height)
    }
}

fn span(height: u8) -> u64 {
    1 << (LEVEL_BITS * (u32::from(height) + 1))
}

/// In which child of a node of this height the key is.
fn slot(key: u32, height: u8) -> usize {
    let digit = (u64::from(key) >> (LEVEL_BITS * u32::from(height))) & 0xf;
    usize::try_from(digit).unwrap_or_default()
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Node {
    /// Arrivals; 0 is none.
    Leaf([u64; FAN]),
    Inner([NodeRef; FAN]),
}

/// The nodes of one update.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeRow(Vec<Node>);
impl Value for NodeRow {}

/// Reads and changes the states of one room.
#[derive(Clone)]
pub struct StateTree {
    store: Store,
    home: Home,
}

impl StateTree {
    /// The states of a room.
    #[must_use]
    pub fn new(store: &Store, home: Home) -> Self {
        Self { store: store.clone(), home }
    }

    /// The event that a state has for a key.
    ///
    /// # Errors
    /// When the store fails or a node is damaged.
    pub async fn get(&self, root: StateRoot, key: u32) -> Result<Option<Arrival>, StorageError> {
        Ok(self.get_many(root, &[key]).await?.pop().flatten())
    }

    /// The events that a state has for the keys, in their order. Reads each level of the tree at once.
    ///
    /// # Errors
    /// When the store fails or a node is damaged.
    pub async fn get_many(&self, root: StateRoot, keys: &[u32]) -> Result<Vec<Option<Arrival>>, StorageError> {
        let mut nodes = Nodes::default();
        let inside = |key: u32| !root.is_empty() && u64::from(key) < root.span();
        let mut paths: Vec<_> = keys.iter().map(|&key| if inside(key) { root.node } else { NodeRef::NONE }).collect();
        for height in (1..=root.height).rev() {
            self.load(&mut nodes, &paths).await?;
            for (path, &key) in paths.iter_mut().zip(keys) {
                *path = self.child(&nodes, *path, slot(key, height))?;
            }
        }
        self.load(&mut nodes, &paths).await?;
        let arrival = |(&path, &key): (&NodeRef, &u32)| self.arrival(&nodes, path, slot(key, 0));
        paths.iter().zip(keys).map(arrival).collect()
    }

    /// Entries of a state from a key on, in the order of keys. An answer shorter than the limit is the end.
    ///
    /// # Errors
    /// When the store fails or a node is damaged.
    pub async fn walk(&self, root: StateRoot, from: u32, limit: usize) -> Result<Vec<(u32, Arrival)>, StorageError> {
        let mut entries = Vec::new();
        let mut nodes = Nodes::default();
        let mut open = vec![(root, 0_u64)];
        while let Some((tree, base)) = open.pop() {
            if tree.is_empty() || base + tree.span() <= u64::from(from) {
                continue;
            }
            self.load(&mut nodes, &[tree.node]).await?;
            match self.node(&nodes, tree.node)?.clone() {
                Node::Inner(children) => {
                    if tree.height == 1 {
                        self.load(&mut nodes, &children).await?;
                    }
                    let below = tree.height.saturating_sub(1);
                    let bases = (0..).map(|slot: u64| base + slot * span(below));
                    let children: Vec<_> = children.into_iter().zip(bases).collect();
                    let trees = children.into_iter().map(|(node, base)| (StateRoot { node, height: below }, base));
                    open.extend(trees.rev());
                }
                Node::Leaf(arrivals) => {
                    for (key, arrival) in (base..).zip(arrivals) {
                        let key = u32::try_from(key).map_err(|_too_high| self.damaged(tree.node))?;
                        if let Some(arrival) = Arrival::new(arrival).filter(|_| key >= from) {
                            entries.push((key, arrival));
                        }
                        if entries.len() >= limit {
                            return Ok(entries);
                        }
                    }
                }
            }
        }
        Ok(entries)
    }

    /// Forgets what memory holds of the room's nodes. To be called when the room's rows are deleted, because a room that
    /// is learnt anew counts its rows from 1 again.
    pub fn forget(&self) {
        self.store.state_cache().forget(&self.home);
    }

    /// Makes sure that the nodes are in memory: from those being written, from the cache, else from the store.
    async fn load(&self, nodes: &mut Nodes, wanted: &[NodeRef]) -> Result<(), StorageError> {
        let cache = self.store.state_cache();
        let rows: BTreeSet<_> = wanted.iter().map(|node| node.row).filter(|&row| row != 0).collect();
        let mut missing = Vec::new();
        for row in rows {
            if nodes.0.contains_key(&row) {
                continue;
            }
            match cache.get(&self.home, row) {
                Some(found) => drop(nodes.0.insert(row, found)),
                None => missing.push(row),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let stored = self.store.get_many(&STATE_NODES, &self.home, &missing).await?;
        for (row, stored) in missing.into_iter().zip(stored) {
            let stored = Arc::new(stored.ok_or_else(|| self.damaged(NodeRef { row, index: 0 }))?);
            cache.insert(&self.home, row, Arc::clone(&stored));
            nodes.0.insert(row, stored);
        }
        Ok(())
    }

    fn node<'a>(&self, nodes: &'a Nodes, at: NodeRef) -> Result<&'a Node, StorageError> {
        let row = nodes.0.get(&at.row);
        row.and_then(|row| row.0.get(usize::from(at.index))).ok_or_else(|| self.damaged(at))
    }

    fn child(&self, nodes: &Nodes, at: NodeRef, slot: usize) -> Result<NodeRef, StorageError> {
        if at == NodeRef::NONE {
            return Ok(NodeRef::NONE);
        }
        match self.node(nodes, at)? {
            Node::Inner(children) => Ok(children.get(slot).copied().unwrap_or_default()),
            Node::Leaf(_) => Err(self.damaged(at)),
        }
    }

    fn arrival(&self, nodes: &Nodes, at: NodeRef, slot: usize) -> Result<Option<Arrival>, StorageError> {
        if at == NodeRef::NONE {
            return Ok(None);
        }
        match self.node(nodes, at)? {
            Node::Leaf(arrivals) => Ok(arrivals.get(slot).copied().and_then(Arrival::new)),
            Node::Inner(_) => Err(self.damaged(at)),
        }
    }

    fn damaged(&self, at: NodeRef) -> StorageError {
        let row = STATE_NODES.row_key(&self.home, &at.row);
        STATE_NODES.info().corrupt(&row.bytes, &format!("the state tree needs its node {}", at.index))
    }
}

/// Rows that one call has read.
#[derive(Default)]
struct Nodes(HashMap<u64, Arc<NodeRow>>);
