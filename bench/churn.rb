# SPDX-License-Identifier: MIT
# churn.rb SECONDS - a Ruby program that works through documents and keeps a few of them.
#
# Run by bench/rss. Each round parses a few thousand JSON documents, joins strings of many sizes
# (what Ruby takes from malloc; its small objects live in pages of its own), keeps one in 40 for
# good, and drops the rest. Says "idle" at the end and sleeps.
require "json"

ROUNDS = 5
DOCUMENTS = 15000
KEEP_EVERY = 40

source = Random.new(42)
texts = Array.new(500) do |number|
  fields = (0...source.rand(5...30)).to_h { |n| ["field#{n}", source.rand] }
  tags = Array.new(source.rand(1...20)) { "tag-#{source.rand(1 << 30)}-#{"x" * source.rand(40)}" }
  JSON.generate("id" => number, "fields" => fields, "tags" => tags,
                "text" => "lorem ipsum " * source.rand(5...80))
end

kept = []
ROUNDS.times do
  parsed = Array.new(DOCUMENTS) { JSON.parse(texts[source.rand(texts.size)]) }
  index = Hash.new { |hash, key| hash[key] = [] }
  parsed.each { |entry| entry["tags"].each { |tag| index[tag] << entry } }
  pages = parsed.map { |entry| entry["tags"].join(", ") + entry["text"] * 2 }
  parsed.each_with_index { |entry, n| kept << entry << pages[n] if (n % KEEP_EVERY).zero? }
  parsed = index = pages = nil
end
GC.start
puts "idle"
$stdout.flush
sleep ARGV[0].to_f
