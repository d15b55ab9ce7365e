// How the next token is chosen: temperature, then top-k, then top-p (`core.decoding.filters`).

function probabilities(logits, { temperature = 1, topK = 0, topP = 1 } = {}) {
  if (temperature === 0) return oneHot(logits);
  const shares = softmax(logits.map((x) => x / temperature));
  if ((!topK || topK >= shares.length) && topP >= 1) return shares;
  const order = largest(shares, topK || shares.length);
  const kept = new Float32Array(shares.length),
    inside = order.reduce((sum, id) => sum + shares[id], 0);
  let before = 0;
  for (const id of order) {
    if (before / inside >= topP) break;
    kept[id] = shares[id];
    before += shares[id];
  }
  const sum = sumOf(kept, 0, kept.length);
  return kept.map((share) => share / sum);
}

function oneHot(logits) {
  const shares = new Float32Array(logits.length);
  shares[largest(logits, 1)[0]] = 1;
  return shares;
}

// One index, drawn by its probability; `at` is a number from [0, 1).
function draw(shares, at = Math.random()) {
  let reached = 0;
  for (let id = 0; id < shares.length; id++) {
    reached += shares[id];
    if (at < reached) return id;
  }
  return largest(shares, 1)[0];
}
