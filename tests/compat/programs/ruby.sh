# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# ruby.sh -- garbage collection under stress, heap compaction, threads and fork in ruby.
what="GC.stress, GC.compact, hash of 200k, threads, fork"
packages=ruby
commands=ruby
witnesses='ruby[0-9.]*'
speed=quick

version() { ruby -e 'puts RUBY_VERSION'; }

workload() {
    cat >work.rb <<'RUBY'
require "digest"
require "json"
$stdout.sync = true

GC.stress = true
words = (1..300).map { |i| "w#{i}" * (i % 7) }
puts Digest::MD5.hexdigest(words.join(","))
GC.stress = false

hash = (1..200_000).to_h { |i| ["key#{i}", { "n" => i, "s" => "x" * (i % 200) }] }
hash.delete_if { |_, value| value["n"] % 4 != 0 }
GC.start
GC.compact
text = JSON.generate(hash)
puts hash.size, text.size, Digest::MD5.hexdigest(text), JSON.parse(text) == hash

sums = (1..16).map do |n|
  Thread.new { (1..3000).map { |i| ("#{n}:" * (i % 50)).hash; "#{n * i}" * 3 }.join.sum }
end
puts sums.map(&:value).join(" ")

6.times do |n|
  reader, writer = IO.pipe
  pid = fork do
    reader.close
    writer.write(Digest::MD5.hexdigest(Array.new(20_000) { |i| "#{n}#{i}" }.join))
    exit!(n)
  end
  writer.close
  puts reader.read
  Process.wait(pid)
  puts $?.exitstatus
end
puts "a" * 50_000_000 == "a" * 50_000_000
abort "the end"
RUBY
    ruby work.rb || echo "status $?"
}
