//! Changing a state: a new root, and the rows of the nodes that are new.

use super::{
    Arc, Arrival, BTreeMap, Commit, FAN, Node, NodeRef, NodeRow, Nodes, ROW_NODES_MAX, STATE_NODES, StateRoot,
    StateTree, StorageError, slot, span,
};

/// The new state, and what has to be stored for it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Update {
    /// The new state.
    pub root: StateRoot,
    /// The rows to be written; none when nothing changed.
    pub rows: Vec<(u64, NodeRow)>,
    /// The number of the next row of the room.
    pub next_row: u64,
}

/// Changed keys, sorted.
type Changes<'a> = &'a [(u32, Option<Arrival>)];

impl StateTree {
    /// The state after changes; `None` removes a key, and of two changes of a key the later one counts. `next_row` is
    /// the room's number for the next row, from 1, never used twice unless the commit that wrote it failed.
    ///
    /// # Errors
    /// When the store fails or a node is damaged.
    pub async fn update(
        &self,
        root: StateRoot,
        changes: &[(u32, Option<Arrival>)],
        next_row: u64,
    ) -> Result<Update, StorageError> {
        let mut changes: Vec<_> = changes.iter().copied().collect::<BTreeMap<_, _>>().into_iter().collect();
        let highest = changes.iter().rev().find(|(_, arrival)| arrival.is_some()).map_or(0, |&(key, _)| key);
        let mut height = root.height;
        while span(height) <= u64::from(highest) {
            height += 1;
        }
        // What is removed beyond the highest key is not there, and has no path in a tree of this height.
        changes.retain(|(key, _)| u64::from(*key) < span(height));
        let nodes = self.load_paths(root, &changes).await?;
        let mut packer = Packer { next_row: next_row.max(1), rows: Vec::new() };
        let node = self.rebuild(&nodes, &mut packer, root, height, &changes)?;
        let root = self.lowered(&nodes, &mut packer, StateRoot { node, height })?;
        Ok(Update { root, next_row: packer.next_row, rows: packer.rows })
    }

    /// Puts the rows of an update into the commit and makes them readable at once, so that the room's next event can
    /// build on the new state before this commit is durable. When the commit fails, they are gone.
    pub fn write(&self, update: Update, commit: &mut Commit) -> StateRoot {
        let cache = self.store.state_cache();
        let mut staged = Vec::new();
        for (row, nodes) in update.rows {
            commit.put(&STATE_NODES, &row, &nodes);
            staged.push(cache.stage(&self.home, row, Arc::new(nodes)));
        }
        if !staged.is_empty() {
            commit.then(move |outcome| {
                if outcome.is_ok() {
                    staged.into_iter().for_each(super::cache::Staged::keep);
                }
            });
        }
        update.root
    }

    /// All nodes on the way to the changed keys, and to key 0: when the tree becomes lower, its root is one of those.
    async fn load_paths(&self, root: StateRoot, changes: Changes<'_>) -> Result<Nodes, StorageError> {
        let mut nodes = Nodes::default();
        let keys = std::iter::once(0).chain(changes.iter().map(|&(key, _)| key));
        let mut paths: Vec<_> = keys.filter(|&key| u64::from(key) < root.span()).map(|key| (key, root.node)).collect();
        for height in (0..=root.height).rev() {
            let wanted: Vec<_> = paths.iter().map(|&(_, node)| node).collect();
            self.load(&mut nodes, &wanted).await?;
            if height > 0 {
                for (key, node) in &mut paths {
                    *node = self.child(&nodes, *node, slot(*key, height))?;
                }
            }
        }
        Ok(nodes)
    }

    /// The node of this height that holds what `old` holds, changed. `old` may be lower: then it is its first child.
    fn rebuild(
        &self,
        nodes: &Nodes,
        packer: &mut Packer,
        old: StateRoot,
        height: u8,
        changes: Changes<'_>,
    ) -> Result<NodeRef, StorageError> {
        if changes.is_empty() && (old.is_empty() || old.height == height) {
            return Ok(old.node);
        }
        let node = if height == 0 {
            Node::Leaf(self.rebuilt_leaf(nodes, old.node, changes)?)
        } else {
            Node::Inner(self.rebuilt_inner(nodes, packer, old, height, changes)?)
        };
        if node.is_empty() {
            return Ok(NodeRef::NONE);
        }
        if old.height == height && !old.is_empty() && *self.node(nodes, old.node)? == node {
            return Ok(old.node);
        }
        Ok(packer.push(node))
    }

    fn rebuilt_leaf(&self, nodes: &Nodes, old: NodeRef, changes: Changes<'_>) -> Result<[u64; FAN], StorageError> {
        let mut arrivals = match old {
            NodeRef::NONE => [0; FAN],
            old => match self.node(nodes, old)? {
                Node::Leaf(arrivals) => *arrivals,
                Node::Inner(_) => return Err(self.damaged(old)),
            },
        };
        for &(key, arrival) in changes {
            if let Some(entry) = arrivals.get_mut(slot(key, 0)) {
                *entry = arrival.map_or(0, Arrival::get);
            }
        }
        Ok(arrivals)
    }

    fn rebuilt_inner(
        &self,
        nodes: &Nodes,
        packer: &mut Packer,
        old: StateRoot,
        height: u8,
        mut changes: Changes<'_>,
    ) -> Result<[NodeRef; FAN], StorageError> {
        let mut children = [NodeRef::NONE; FAN];
        for (number, child) in children.iter_mut().enumerate() {
            let inside = changes.iter().take_while(|&&(key, _)| slot(key, height) == number).count();
            let (own, rest) = changes.split_at_checked(inside).unwrap_or((changes, &[]));
            changes = rest;
            *child = self.rebuild(nodes, packer, self.subtree(nodes, old, height, number)?, height - 1, own)?;
        }
        Ok(children)
    }

    /// A child of a tree that is looked at as one of this height, which is at least 1 and may be above its own.
    pub(super) fn subtree(
        &self,
        nodes: &Nodes,
        tree: StateRoot,
        height: u8,
        number: usize,
    ) -> Result<StateRoot, StorageError> {
        if tree.height < height {
            return Ok(if number == 0 { tree } else { StateRoot::EMPTY });
        }
        let node = self.child(nodes, tree.node, number)?;
        // There is one empty tree, so that two of them are equal.
        Ok(if node == NodeRef::NONE { StateRoot::EMPTY } else { StateRoot { node, height: height - 1 } })
    }

    /// Leaves out roots that have nothing but a first child.
    fn lowered(&self, nodes: &Nodes, packer: &mut Packer, mut root: StateRoot) -> Result<StateRoot, StorageError> {
        while root.height > 0 && !root.is_empty() {
            let node = packer.get(root.node).map_or_else(|| self.node(nodes, root.node), Ok)?;
            let Node::Inner([first, others @ ..]) = node else { return Err(self.damaged(root.node)) };
            if others.iter().any(|&other| other != NodeRef::NONE) {
                return Ok(root);
            }
            let first = *first;
            packer.take_back(root.node);
            root = StateRoot { node: first, height: root.height - 1 };
        }
        Ok(if root.is_empty() { StateRoot::EMPTY } else { root })
    }
}

impl Node {
    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(arrivals) => arrivals.iter().all(|&arrival| arrival == 0),
            Self::Inner(children) => children.iter().all(|&child| child == NodeRef::NONE),
        }
    }
}

/// Collects new nodes into rows.
struct Packer {
    next_row: u64,
    rows: Vec<(u64, NodeRow)>,
}

impl Packer {
    fn push(&mut self, node: Node) -> NodeRef {
        if self.rows.last().is_none_or(|(_, row)| row.0.len() >= ROW_NODES_MAX) {
            self.rows.push((self.next_row, NodeRow::default()));
            self.next_row += 1;
        }
        let last = self.rows.last_mut().and_then(|(number, row)| {
            let index = u8::try_from(row.0.len()).ok()?;
            row.0.push(node);
            Some(NodeRef { row: *number, index })
        });
        last.unwrap_or_default()
    }

    fn get(&self, at: NodeRef) -> Option<&Node> {
        let (_, row) = self.rows.iter().rev().find(|(number, _)| *number == at.row)?;
        row.0.get(usize::from(at.index))
    }

    /// Removes the node if it was pushed last.
    fn take_back(&mut self, node: NodeRef) {
        let Some((number, row)) = self.rows.last_mut() else { return };
        if *number == node.row && usize::from(node.index) + 1 == row.0.len() {
            row.0.pop();
        }
        if row.0.is_empty() {
            self.next_row = *number;
            self.rows.pop();
        }
    }
}
