// Which heads are switched off and which edges are cut. A part is "self", "encoder" or "cross".
class Cuts {
  constructor() {
    this.heads = new Set();
    this.edges = new Map();
  }

  static place(part, layer, head) {
    return `${part}/${layer}/${head}`;
  }

  get empty() {
    return this.heads.size === 0 && this.edges.size === 0;
  }

  toggleHead(part, layer, head) {
    const place = Cuts.place(part, layer, head);
    if (!this.heads.delete(place)) this.heads.add(place);
  }

  hasHead(part, layer, head) {
    return this.heads.has(Cuts.place(part, layer, head));
  }

  has(part, layer, head, query, key) {
    return this.edges.get(Cuts.place(part, layer, head))?.has(`${query},${key}`) ?? false;
  }

  set(part, layer, head, query, key, cut) {
    const place = Cuts.place(part, layer, head),
      edges = this.edges.get(place) ?? new Set();
    if (cut) edges.add(`${query},${key}`);
    else edges.delete(`${query},${key}`);
    if (edges.size) this.edges.set(place, edges);
    else this.edges.delete(place);
  }

  // For each query, which keys one head may not attend to; null where nothing is cut.
  blocked(part, layer, head) {
    return this.edges.get(Cuts.place(part, layer, head)) ?? null;
  }

  // The edges as [part, layer, head, query, key].
  list() {
    return [...this.edges].flatMap(([place, edges]) => {
      const [part, layer, head] = place.split("/");
      return [...edges].map((edge) => [part, +layer, +head, ...edge.split(",").map(Number)]);
    });
  }

  copy() {
    const other = new Cuts();
    other.heads = new Set(this.heads);
    this.edges.forEach((edges, place) => other.edges.set(place, new Set(edges)));
    return other;
  }

  signature() {
    return [...this.heads, ...this.list().map(String)].sort().join(" ");
  }
}
