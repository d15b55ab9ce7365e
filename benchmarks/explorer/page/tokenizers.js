// Text to token ids and back, as Python's tokenizers do it, and tokens as they are shown.

class Tokenizer {
  constructor(description) {
    Object.assign(this, description);
    this.bytesOfPieces = description.pieces.map(bytesOf);
    this.decoder = new TextDecoder("utf-8", { fatal: true });
    this.byCharacter = new Map();
    if (this.kind === "char")
      this.bytesOfPieces.forEach((bytes, id) => this.byCharacter.set(this.decoder.decode(bytes), id));
    this.ranks = new Map((description.merges ?? []).map(([a, b, joined], rank) => [`${a} ${b}`, { rank, joined }]));
    this.names = new Map(Object.entries(this.special).map(([name, id]) => [id, name]));
    this.shown = new Map();
    this.words = new Map();
  }

  // {ids, unknown}: the characters that the vocabulary lacks are left out, with the place before which they stood.
  encode(text) {
    if (this.kind === "char") return this.encodeCharacters(text);
    const bytes = new TextEncoder();
    if (this.kind === "byte") return { ids: [...bytes.encode(text)], unknown: [] };
    const parts = text.match(new RegExp(this.regexp, "gu")) ?? [];
    return { ids: parts.flatMap((word) => this.encodeWord(word)), unknown: [] };
  }

  encodeCharacters(text) {
    const ids = [],
      unknown = [];
    for (const character of text) {
      const id = this.byCharacter.get(character);
      if (id === undefined) unknown.push({ before: ids.length, character });
      else ids.push(id);
    }
    return { ids, unknown };
  }

  // The pair that was learned first is joined first, until none is left.
  encodeWord(word) {
    if (this.words.has(word)) return this.words.get(word);
    const ids = [...new TextEncoder().encode(word)].map((byte) => this.bytes[byte]);
    for (;;) {
      let best = null;
      for (let i = 0; i + 1 < ids.length; i++) {
        const found = this.ranks.get(`${ids[i]} ${ids[i + 1]}`);
        if (found && (!best || found.rank < best.rank)) best = { ...found, i };
      }
      if (!best) break;
      ids.splice(best.i, 2, best.joined);
    }
    this.words.set(word, ids);
    return ids;
  }

  framed(text) {
    const { ids, unknown } = this.encode(text),
      [before, after] = this.frame;
    return { ids: [...before, ...ids, ...after], unknown };
  }

  decode(ids) {
    const all = Uint8Array.from(ids.flatMap((id) => [...this.bytesOfPieces[id]]));
    return new TextDecoder().decode(all);
  }

  // A token as it is shown: blanks are made visible, bytes that are no whole character are written as numbers.
  show(id) {
    if (!this.shown.has(id)) this.shown.set(id, this.written(id));
    return this.shown.get(id);
  }

  written(id) {
    const bytes = this.bytesOfPieces[id];
    if (this.isBytes(id)) return [...bytes].map((byte) => byte.toString(16).padStart(2, "0").toUpperCase()).join("·");
    const text = this.decoder.decode(bytes),
      name = this.names.get(id);
    return name && (text === "" || text.length > 12) ? `⟨${name}⟩` : visible(text);
  }

  // Whether a token is part of a character, and so shown by its bytes.
  isBytes(id) {
    try {
      this.decoder.decode(this.bytesOfPieces[id]);
      return false;
    } catch {
      return true;
    }
  }
}

const MARKS = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" };

function visible(text) {
  return text.replace(/[ \n\t\r]/g, (blank) => MARKS[blank]).replace(/[\u0000-\u001f\u007f-\u009f]/g, "�");
}
