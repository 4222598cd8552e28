//! What differs between two states. Subtrees that both share are passed over without reading them.

use super::{Arrival, FAN, Nodes, StateRoot, StateTree, StorageError};

/// A key, and what the first and the second state have for it.
type Difference = (u32, Option<Arrival>, Option<Arrival>);

impl StateTree {
    /// The keys for which two states of the room differ, in order, with what each has for them. The work grows with the
    /// difference, not with the states.
    ///
    /// # Errors
    /// When the store fails or a node is damaged.
    pub async fn diff(&self, first: StateRoot, second: StateRoot) -> Result<Vec<Difference>, StorageError> {
        let mut nodes = Nodes::default();
        let mut pairs = vec![(0_u64, first, second)];
        for height in (1..=first.height.max(second.height)).rev() {
            self.load_pairs(&mut nodes, &mut pairs, height).await?;
            let mut below = Vec::new();
            for (base, first, second) in pairs {
                for number in 0..FAN {
                    let first = self.subtree(&nodes, first, height, number)?;
                    let second = self.subtree(&nodes, second, height, number)?;
                    if first != second {
                        below.push((base * 16 + u64::try_from(number).unwrap_or_default(), first, second));
                    }
                }
            }
            pairs = below;
        }
        self.load_pairs(&mut nodes, &mut pairs, 0).await?;
        let mut differences = Vec::new();
        for (base, first, second) in pairs {
            for (number, key) in (0..FAN).zip(base * 16..) {
                let first = self.arrival(&nodes, first.node, number)?;
                let second = self.arrival(&nodes, second.node, number)?;
                if first != second {
                    let key = u32::try_from(key).map_err(|_too_high| self.damaged(super::NodeRef::NONE))?;
                    differences.push((key, first, second));
                }
            }
        }
        Ok(differences)
    }

    /// Drops the pairs that are equal and loads the nodes of this height of the others.
    async fn load_pairs(
        &self,
        nodes: &mut Nodes,
        pairs: &mut Vec<(u64, StateRoot, StateRoot)>,
        height: u8,
    ) -> Result<(), StorageError> {
        pairs.retain(|(_, first, second)| first != second);
        let trees = pairs.iter().flat_map(|(_, first, second)| [first, second]);
        let wanted: Vec<_> = trees.filter(|tree| tree.height == height).map(|tree| tree.node).collect();
        self.load(nodes, &wanted).await
    }
}
